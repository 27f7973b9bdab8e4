//! `#[micro::service(mock)]`: an implementation that answers as a test tells it.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::Ident;
use syn::ext::IdentExt;

use super::expand::{Names, argument_types, marker};
use super::parse::{Argument, Method};

/// Returns the type and what it implements, if the contract wants a mock.
pub(super) fn expand(names: &Names<'_>) -> Option<(TokenStream, TokenStream)> {
    let mock = format_ident!("Mock{}", names.definition);
    names.contract.mock.then(|| (type_of(&mock, names), implementation(&mock, names)))
}

fn type_of(mock: &Ident, names: &Names<'_>) -> TokenStream {
    let Names { contract, visibility, definition, .. } = names;
    let cfgs = &contract.cfgs;
    let doc =
        format!("A [`{definition}`] for tests, which answers as it is told. Clones share all.");
    let fields = contract.methods.iter().map(|method| {
        let Method { ident, cfgs, .. } = method;
        let (arguments, returned) = (argument_types(method), &method.output.returned);
        quote!(#(#cfgs)* #ident: ::micro::__private::Mocked<#arguments, #returned>)
    });
    quote! {
        #(#cfgs)*
        #[doc = #doc]
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #[allow(dead_code, deprecated, non_snake_case)]
        #visibility struct #mock {
            #(#fields),*
        }
    }
}

fn implementation(mock: &Ident, names: &Names<'_>) -> TokenStream {
    let Names { contract, visibility, definition, .. } = names;
    let new_doc = "A mock that has no answers yet.";
    let fields = contract.methods.iter().map(|method| field(mock, method));
    let inherent = contract.methods.iter().map(|method| inherent(names, method));
    let methods = contract.methods.iter().map(trait_method);
    quote! {
        impl #mock {
            #[doc = #new_doc]
            #visibility fn new() -> Self {
                Self { #(#fields),* }
            }

            #(#inherent)*
        }

        impl ::core::default::Default for #mock {
            fn default() -> Self {
                Self::new()
            }
        }

        impl #definition for #mock {
            #(#methods)*
        }
    }
}

fn field(mock: &Ident, method: &Method) -> TokenStream {
    let Method { ident, cfgs, .. } = method;
    let (mock, name) = (mock.to_string(), ident.unraw().to_string());
    quote!(#(#cfgs)* #ident: ::micro::__private::Mocked::new(#mock, #name))
}

/// What a test says and asks of a method.
fn inherent(names: &Names<'_>, method: &Method) -> TokenStream {
    let Method { ident, cfgs, .. } = method;
    let (visibility, marker) = (&names.visibility, marker(method));
    let (on, calls_of) = (format_ident!("on_{}", ident), format_ident!("calls_of_{}", ident));
    let on_doc =
        format!("Answers `{ident}` with what this returns, from now on and in all clones.");
    let calls_doc = format!("What `{ident}` of all clones was called with, the oldest call first.");
    let types: Vec<_> = method.arguments.iter().map(|argument| &argument.ty).collect();
    let values: Vec<_> = (0..types.len()).map(|i| format_ident!("value{i}")).collect();
    let returned = &method.output.returned;
    let (call, calls) = match &types[..] {
        [only] => (quote!(#only), quote!(only_arguments)),
        _ => (quote!((#(#types),*)), quote!(calls)),
    };
    quote! {
        #(#cfgs)*
        #[doc = #on_doc]
        #visibility fn #on(
            self,
            answer: impl ::core::ops::Fn(#(#types),*) -> #returned
                + ::core::marker::Send
                + ::core::marker::Sync
                + 'static,
        ) -> Self {
            self.#ident.set(move |(#(#values,)*)| answer(#(#values),*));
            self
        }

        #(#cfgs)*
        #[doc = #calls_doc]
        #visibility fn #calls_of(&self) -> ::std::vec::Vec<#call> {
            self.#ident.#calls::<#marker>()
        }
    }
}

fn trait_method(method: &Method) -> TokenStream {
    let Method { ident, cfgs, .. } = method;
    let (marker, returned) = (marker(method), &method.output.returned);
    let context = method.context.map(|_| quote!(_: &::micro::Context,));
    let parameters = method.arguments.iter().map(|Argument { ident, ty }| quote!(#ident: #ty));
    let values = method.arguments.iter().map(|Argument { ident, .. }| ident);
    quote! {
        #(#cfgs)*
        async fn #ident(&self, #context #(#parameters),*) -> #returned {
            self.#ident.call::<#marker>((#(#values,)*))
        }
    }
}
