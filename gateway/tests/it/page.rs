//! The pages, in a browser.

use super::*;
use crate::browser::Browser;
use crate::look::put;
use micro::registry::{Endpoint, Endpoints, Node, Registration};
use micro_gateway::Access;
use serde_json::json;
use testbed::Scene;

/// The page lists services and nodes, calls a method with what is filled in, says what went wrong,
/// and shows who comes and goes without being asked to. It is never wider than the screen.
#[tokio::test]
async fn the_page() {
    let scene = Scene::new();
    let Some(mut browser) = Browser::open(&scene.directory().join("profile")).await else { return };
    let town = Town::default();
    let _first = town.open("a").await;
    let gateway = town.gateway().await;
    browser.resize(1_400, 900).await;
    browser.go(&format!("http://{}/", gateway.address())).await;
    browser.until("the shop is listed", "!!document.querySelector('[data-name=shop]')").await;
    browser.evaluate("document.querySelector('[data-name=shop]').open = true").await;
    let form = "document.querySelector('[data-method=order]').open = true; \
                window.form = document.querySelector('[data-method=order] form'); true";
    browser.until("its methods have forms", form).await;

    browser.evaluate("form.elements.thing.value = 'tea'; form.elements.count.value = '2'").await;
    browser.evaluate("form.requestSubmit()").await;
    let answer = "form.querySelector('.answer')?.textContent";
    let answer = browser.until("it is answered", answer).await;
    let answer: serde_json::Value = serde_json::from_str(answer.as_str().unwrap()).unwrap();
    assert_eq!(answer, json!({ "thing": "tea", "count": 2 }));
    let said = browser.evaluate("form.querySelector('[aria-live]').textContent").await;
    assert!(said.as_str().unwrap().contains("node a"), "{said}");

    browser.evaluate("form.elements.count.value = '99'; form.requestSubmit()").await;
    browser.until("it fails", "form.textContent.includes('only 9 left')").await;

    let second = town.open("b").await;
    let nodes = |count: usize| {
        format!("document.querySelectorAll('[data-name=shop] tbody tr').length === {count}")
    };
    browser.until("the second node is there", &nodes(2)).await;
    second.shutdown().await;
    browser.until("it is gone", &nodes(1)).await;
    let happened = browser.evaluate("document.getElementById('events').textContent").await;
    let happened = happened.as_str().unwrap();
    assert!(
        happened.contains("joined shop / b") && happened.contains("left shop / b"),
        "{happened}"
    );

    for width in [1_400, 400] {
        browser.resize(width, 900).await;
        let wide = browser.evaluate("document.documentElement.scrollWidth").await;
        assert!(wide.as_u64().unwrap() <= width.into(), "{wide} of {width}");
    }
}

/// Methods that are known later appear in a service that is open, and what was filled in meanwhile
/// stays.
#[tokio::test]
async fn methods_that_come_later() {
    let scene = Scene::new();
    let Some(mut browser) = Browser::open(&scene.directory().join("profile")).await else { return };
    let (elsewhere, town) = (Town::default(), Town::default());
    let shop = elsewhere.open("a").await;
    let gateway = town.gateway().await;
    browser.go(&format!("http://{}/", gateway.address())).await;
    let live = "document.getElementById('status').className === 'good'";
    browser.until("the page listens", live).await;
    let nobody = Node::new("nobody", "127.0.0.1:1");
    look::register(&town, "shop", "0.1.0", nobody).await;
    let card = "(window.card = document.querySelector('[data-name=shop]')) && (card.open = true)";
    browser.until("the shop is listed", card).await;

    let registration = shop.registration();
    look::register(&town, "shop", &registration.version, registration.node.clone()).await;
    let form = "!!(window.form = card.querySelector('[data-method=price] form'))";
    browser.until("the method has a form", form).await;
    browser.evaluate("form.elements.thing.value = 'tea'").await;

    let mut more = Registration::new("shop", "0.2.0", Node::new("more", "127.0.0.1:1"));
    more.endpoints = Endpoints::Listed(vec![Endpoint::new("shop", "more")]);
    put(&town, &more).await;
    browser.until("there is more", "!!card.querySelector('[data-method=more]')").await;
    let kept = "card.querySelector('[data-method=price] form').elements.thing.value";
    assert_eq!(browser.evaluate(kept).await, "tea");
    let nodes = "card.querySelectorAll('tbody tr').length";
    assert_eq!(browser.evaluate(nodes).await, 3);
}

/// Methods that could not be got are asked for again when the service is opened again.
#[tokio::test]
async fn methods_are_asked_for_again() {
    let scene = Scene::new();
    let Some(mut browser) = Browser::open(&scene.directory().join("profile")).await else { return };
    let town = Town::default();
    let _shop = town.open("a").await;
    let gateway = town.gateway().await;
    browser.go(&format!("http://{}/", gateway.address())).await;
    let card = "!!(window.card = document.querySelector('[data-name=shop]'))";
    browser.until("the shop is listed", card).await;
    let fail = "window.real = fetch; card.open = true; \
                window.fetch = () => Promise.reject(new Error('no way'))";
    browser.evaluate(fail).await;
    browser.until("it fails", "card.textContent.includes('no way')").await;
    browser.evaluate("window.fetch = real; card.open = false").await;
    let again = "card.open = !card.open; !!card.querySelector('[data-method=price] form')";
    browser.until("its methods have forms", again).await;
}

/// The page asks for a token where one is needed, and works with it, its links too.
#[tokio::test]
async fn the_page_with_a_token() {
    let scene = Scene::new();
    let Some(mut browser) = Browser::open(&scene.directory().join("profile")).await else { return };
    let town = Town::default();
    let _shop = town.open("a").await;
    let access = Access::Bearer(vec!["open sesame".into()]);
    let gateway = town.gateway_with(|config| config.access = access).await;
    browser.go(&format!("http://{}/", gateway.address())).await;
    let asks = "document.getElementById('login')?.hidden === false";
    browser.until("it asks for a token", asks).await;
    let enter = "document.getElementById('token').value = 'open sesame'; \
                 document.getElementById('login').requestSubmit()";
    browser.evaluate(enter).await;
    browser.until("the shop is listed", "!!document.querySelector('[data-name=shop]')").await;
    browser.evaluate("document.querySelector('[data-name=shop]').open = true").await;
    let form = "window.form = document.querySelector('[data-method=price] form'); !!form";
    browser.until("its methods have forms", form).await;
    browser.evaluate("form.elements.thing.value = 'tea'; form.requestSubmit()").await;
    let curl = "form.querySelectorAll('pre')[1]?.textContent";
    let curl = browser.until("it says how to call", curl).await;
    let curl = curl.as_str().unwrap();
    assert!(curl.contains(r#"-H "authorization: Bearer $TOKEN""#), "{curl}");
    assert!(!curl.contains("sesame"), "{curl}");

    let click = "let left; \
                 addEventListener('click', (e) => { left = !e.defaultPrevented; e.preventDefault(); }); \
                 document.querySelector('a[data-ask]').dispatchEvent(new MouseEvent('click', \
                 { ctrlKey: true, bubbles: true, cancelable: true })); left";
    assert_eq!(browser.evaluate(click).await, true, "another tab is the browser's");

    for (link, expected) in [("openapi.json", "/shop/price"), ("metrics", "micro_gateway_requests")]
    {
        browser.go(&format!("http://{}/", gateway.address())).await;
        let click = format!(
            "document.getElementById('status').className === 'good' && \
             (document.querySelector('a[href=\"{link}\"]').click(), true)"
        );
        browser.until("the link is there", &click).await;
        let shown = format!("document.body.textContent.includes('{expected}')");
        browser.until("what it leads to is shown", &shown).await;
    }
}

/// The description of the API is shown, with what each method takes.
#[tokio::test]
async fn the_description() {
    let scene = Scene::new();
    let Some(mut browser) = Browser::open(&scene.directory().join("profile")).await else { return };
    let town = Town::default();
    let _shop = town.open("a").await;
    let gateway = town.gateway().await;
    let described = async || {
        let described = get(&gateway, "/openapi.json").await.json();
        described
            .pointer(
                "/paths/~1shop~1order/post/requestBody/content/application~1json/schema/required",
            )
            .map(drop)
    };
    testbed::eventually("the methods have schemas", described).await;
    browser.go(&format!("http://{}/docs", gateway.address())).await;
    let shown = "document.getElementById('operations')?.textContent.includes('/shop/order')";
    browser.until("the methods are shown", shown).await;
    let text = browser.evaluate("document.getElementById('operations').textContent").await;
    let text = text.as_str().unwrap();
    for word in
        ["Orders so many of a thing.", "integer (uint32)", "micro-timeout", "POST GET", "SoldOut"]
    {
        assert!(text.contains(word), "{word}: {text}");
    }
}

/// Every file of the pages is there, and loads nothing from elsewhere.
#[tokio::test]
async fn files() {
    let gateway = Town::default().gateway().await;
    for file in ["/", "/docs", "/page.css", "/common.js", "/page.js", "/docs.js", "/icon.svg"] {
        let answer = get(&gateway, file).await;
        assert_eq!(answer.status, 200, "{file}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        let foreign = answer.body.replace("http://www.w3.org/2000/svg", "").contains("//www.")
            || answer.body.contains("https://");
        assert!(!foreign, "{file} names another host");
    }
}
