//! The code made of a contract. It only calls functions of `micro::__private`.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::{Ident, ItemTrait, ReturnType, TraitItem, Type, Visibility, parse_quote};

use super::parse::{Argument, Contract, Method};

pub(super) fn contract(contract: &Contract, definition: ItemTrait) -> TokenStream {
    let names = Names::new(contract, &definition);
    let types = types(&names);
    let methods = contract.methods.iter().map(|method| method_items(&names, method));
    let client = client(&names, &contract.methods);
    let registration = registration(&names, contract);
    let definition = definition_for_servers(definition);
    let cfgs = &contract.cfgs;
    quote! {
        #definition
        #types
        #(#cfgs)*
        #[allow(
            clippy::all,
            clippy::pedantic,
            dead_code,
            deprecated,
            non_camel_case_types,
            non_upper_case_globals
        )]
        const _: () = {
            #(#methods)*
            #client
            #registration
        };
    }
}

/// What the generated items are called.
struct Names<'a> {
    contract: &'a Contract,
    visibility: Visibility,
    definition: Ident,
    server: Ident,
    client: Ident,
}

impl<'a> Names<'a> {
    fn new(contract: &'a Contract, definition: &ItemTrait) -> Self {
        Self {
            contract,
            visibility: definition.vis.clone(),
            server: format_ident!("{}Server", definition.ident),
            client: format_ident!("{}Client", definition.ident),
            definition: definition.ident.clone(),
        }
    }
}

/// The trait as servers implement it: shared, with futures that are `Send`.
fn definition_for_servers(mut definition: ItemTrait) -> ItemTrait {
    definition.colon_token.get_or_insert_default();
    definition.supertraits.push(parse_quote!(::core::marker::Send));
    definition.supertraits.push(parse_quote!(::core::marker::Sync));
    definition.supertraits.push(parse_quote!('static));
    for item in &mut definition.items {
        if let TraitItem::Fn(method) = item {
            let answer: Type = match &method.sig.output {
                ReturnType::Default => parse_quote!(()),
                ReturnType::Type(_, ty) => (**ty).clone(),
            };
            method.sig.asyncness = None;
            method.sig.output = parse_quote! {
                -> impl ::core::future::Future<Output = #answer> + ::core::marker::Send
            };
        }
    }
    definition
}

fn types(names: &Names<'_>) -> TokenStream {
    let Names { contract, visibility, definition, server, client } = names;
    let cfgs = &contract.cfgs;
    let server_name = server.to_string();
    let server_doc = format!("Serves a [`{definition}`].");
    let client_doc = format!("Calls a remote [`{definition}`].");
    let new_doc = "Serves this implementation, which all requests share.";
    let from_arc_doc = "Serves an implementation that is shared with others.";
    quote! {
        #(#cfgs)*
        #[doc = #server_doc]
        #[allow(dead_code)]
        #visibility struct #server<T> {
            implementation: ::std::sync::Arc<T>,
        }

        #(#cfgs)*
        #[allow(dead_code)]
        impl<T: #definition> #server<T> {
            #[doc = #new_doc]
            #visibility fn new(implementation: T) -> Self {
                Self::from_arc(::std::sync::Arc::new(implementation))
            }

            #[doc = #from_arc_doc]
            #visibility fn from_arc(implementation: ::std::sync::Arc<T>) -> Self {
                Self { implementation }
            }
        }

        #(#cfgs)*
        impl<T> ::core::clone::Clone for #server<T> {
            fn clone(&self) -> Self {
                Self { implementation: ::std::sync::Arc::clone(&self.implementation) }
            }
        }

        #(#cfgs)*
        impl<T> ::core::fmt::Debug for #server<T> {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_struct(#server_name).finish_non_exhaustive()
            }
        }

        #(#cfgs)*
        #[doc = #client_doc]
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #[allow(dead_code)]
        #visibility struct #client {
            target: ::micro::__private::Target,
        }
    }
}

/// What is known of the method, and the arguments as they travel.
fn method_items(names: &Names<'_>, method: &Method) -> TokenStream {
    let (info, arguments) = (info_name(method), arguments_name(method));
    let (contract, name, cfgs) = (&names.contract.name, &method.name, &method.cfgs);
    let idempotent = method.idempotent.then(|| quote!(.idempotent()));
    let timeout = method.timeout.map(|timeout| {
        let nanos = u64::try_from(timeout.as_nanos()).expect("it was parsed from a u64 of them");
        quote!(.timeout(::core::time::Duration::from_nanos(#nanos)))
    });
    let text = &method.doc;
    let doc = (!text.is_empty()).then(|| quote!(.doc(#text)));
    let fields = method.arguments.iter().map(|Argument { ident, ty }| quote!(#ident: #ty));
    let expecting = format!("the arguments of `{name}`");
    quote! {
        #(#cfgs)*
        static #info: ::micro::__private::MethodInfo =
            ::micro::__private::MethodInfo::new(#contract, #name) #idempotent #timeout #doc;

        #(#cfgs)*
        #[derive(::micro::__private::serde::Serialize, ::micro::__private::serde::Deserialize)]
        #[serde(crate = "::micro::__private::serde", expecting = #expecting)]
        struct #arguments {
            #(#fields),*
        }
    }
}

fn client(names: &Names<'_>, methods: &[Method]) -> TokenStream {
    let Names { contract, visibility, client, .. } = names;
    let name = &contract.name;
    let new_doc = format!("A client of the service named like the contract: `{name}`.");
    let named_doc = "A client of the contract at a service of another name.";
    let methods = methods.iter().map(|method| client_method(visibility, method));
    quote! {
        impl #client {
            #[doc = #new_doc]
            #visibility fn new(client: &::micro::Client) -> Self {
                Self { target: ::micro::__private::Target::new(client, #name) }
            }

            #[doc = #named_doc]
            #visibility fn named(
                client: &::micro::Client,
                service: impl ::core::convert::Into<::std::string::String>,
            ) -> Self {
                let service: ::std::string::String = ::core::convert::Into::into(service);
                Self { target: ::micro::__private::Target::new(client, service) }
            }

            #(#methods)*
        }
    }
}

fn client_method(visibility: &Visibility, method: &Method) -> TokenStream {
    let Method { ident, docs, cfgs, .. } = method;
    let (info, arguments) = (info_name(method), arguments_name(method));
    let default_doc = format!("Calls `{}`.", method.name);
    let default_doc = docs.is_empty().then(|| quote!(#[doc = #default_doc]));
    let parameters = method.arguments.iter().map(|argument| match argument {
        Argument { ident, ty } if argument.is_string() => {
            quote!(#ident: impl ::core::convert::Into<#ty>)
        }
        Argument { ident, ty } => quote!(#ident: #ty),
    });
    let fields = method.arguments.iter().map(|argument| match argument {
        Argument { ident, .. } if argument.is_string() => {
            quote!(#ident: ::core::convert::Into::into(#ident))
        }
        Argument { ident, .. } => quote!(#ident),
    });
    let answer = &method.output.answer;
    let error = match &method.output.error {
        Some(error) => quote!(#error),
        None => quote!(::core::convert::Infallible),
    };
    quote! {
        #(#cfgs)*
        #(#docs)*
        #default_doc
        #visibility fn #ident(&self, #(#parameters),*) -> ::micro::Call<#answer, #error> {
            ::micro::__private::call(&self.target, &#info, &#arguments { #(#fields),* })
        }
    }
}

fn registration(names: &Names<'_>, contract: &Contract) -> TokenStream {
    let Names { definition, server, .. } = names;
    let Contract { name, doc, .. } = contract;
    let handlers = contract.methods.iter().map(|method| handler(definition, method));
    quote! {
        impl<T: #definition> ::core::convert::From<#server<T>> for ::micro::Contract {
            fn from(server: #server<T>) -> Self {
                let contract = ::micro::__private::contract(#name, #doc);
                #(#handlers)*
                contract.build()
            }
        }
    }
}

/// A statement, not a link of a chain, because only a statement takes `#[cfg]`.
fn handler(definition: &Ident, method: &Method) -> TokenStream {
    let Method { ident, cfgs, .. } = method;
    let (info, arguments) = (info_name(method), arguments_name(method));
    let fallible = method.output.error.is_some();
    let add = if fallible { quote!(fallible) } else { quote!(infallible) };
    let context = if method.context { quote!(context) } else { quote!(_) };
    let pass_context = method.context.then(|| quote!(&context,));
    let bound = if method.arguments.is_empty() { quote!(_) } else { quote!(arguments) };
    let fields = method.arguments.iter().map(|Argument { ident, .. }| quote!(arguments.#ident));
    // The trait is named, because the implementation may have an inherent method of this name.
    quote! {
        #(#cfgs)*
        let contract = contract.#add(
            &server.implementation,
            &#info,
            |implementation, #context, #bound: #arguments| async move {
                <T as #definition>::#ident(&implementation, #pass_context #(#fields),*).await
            },
        );
    }
}

// Unlike with other cases, two methods that the trait can have never get the same name here.

fn info_name(method: &Method) -> Ident {
    format_ident!("__{}_method", method.ident, span = Span::call_site())
}

fn arguments_name(method: &Method) -> Ident {
    format_ident!("__{}_arguments", method.ident, span = Span::call_site())
}
