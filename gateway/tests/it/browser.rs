//! A browser that does as it is told: Chromium without a screen, over two pipes.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// One page of it. Dropping it ends the browser.
pub(crate) struct Browser {
    _process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Value,
    asked: u64,
}

impl Browser {
    /// A browser with an empty page; none where there is no Chromium, unless one is required.
    pub(crate) async fn open(profile: &Path) -> Option<Self> {
        // It reads commands from descriptor 3, and answers on 4.
        let mut process = Command::new("sh")
            .args(["-c", r#"exec "$@" 3<&0 4>&1 0</dev/null 1>/dev/null"#, "sh", "chromium"])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (to, from) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let from = BufReader::new(from);
        let mut browser = Self { _process: process, to, from, session: Value::Null, asked: 0 };
        let Some(page) =
            browser.command("Target.createTarget", json!({ "url": "about:blank" })).await
        else {
            let required = std::env::var_os("MICRO_TEST_BROWSER").is_some_and(|v| v == "required");
            assert!(!required, "chromium is required and does not start");
            eprintln!("SKIPPED: chromium does not start; ./test installs it");
            return None;
        };
        let page = json!({ "targetId": page["targetId"], "flatten": true });
        let session = browser.command("Target.attachToTarget", page).await.unwrap();
        browser.session = session["sessionId"].clone();
        Some(browser)
    }

    /// Opens an address.
    pub(crate) async fn go(&mut self, url: &str) {
        self.command("Page.navigate", json!({ "url": url })).await.unwrap();
    }

    /// Makes the page as wide and high.
    pub(crate) async fn resize(&mut self, width: u32, height: u32) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.command("Emulation.setDeviceMetricsOverride", size).await.unwrap();
    }

    /// What the page says of itself; an exception is `null`.
    pub(crate) async fn evaluate(&mut self, script: &str) -> Value {
        let script = json!({ "expression": script, "awaitPromise": true, "returnByValue": true });
        let said = self.command("Runtime.evaluate", script).await.unwrap();
        if said.get("exceptionDetails").is_some() {
            Value::Null
        } else {
            said["result"]["value"].clone()
        }
    }

    /// Waits until the script says something that is neither `false` nor nothing.
    pub(crate) async fn until(&mut self, what: &str, script: &str) -> Value {
        testbed::eventually(what, async || {
            let said = self.evaluate(script).await;
            (!matches!(said, Value::Null | Value::Bool(false))).then_some(said)
        })
        .await
    }

    /// Gives a command and waits for its result; none once the browser has ended.
    async fn command(&mut self, method: &str, parameters: Value) -> Option<Value> {
        self.asked += 1;
        let mut command = json!({ "id": self.asked, "method": method, "params": parameters });
        if !self.session.is_null() {
            command["sessionId"] = self.session.clone();
        }
        let mut command = command.to_string().into_bytes();
        command.push(0);
        self.to.write_all(&command).await.ok()?;
        timeout(testbed::PATIENCE, self.result()).await.expect("the browser answers")
    }

    /// The result of the last command; what it says by itself meanwhile is of no interest.
    async fn result(&mut self) -> Option<Value> {
        loop {
            let mut said = Vec::new();
            self.from.read_until(0, &mut said).await.ok()?;
            let said: Value = serde_json::from_slice(said.strip_suffix(&[0])?).unwrap();
            if said["id"] == self.asked {
                assert!(said.get("error").is_none(), "{said}");
                return Some(said["result"].clone());
            }
        }
    }
}
