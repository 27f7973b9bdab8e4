//! `#[micro::service]`: a trait becomes a contract.

mod expand;
mod mock;
mod parse;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{FnArg, Item, ItemTrait, TraitItem, parse_quote};

use crate::errors::Errors;
use crate::options;

pub(crate) fn expand(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let Some(definition) = errors.ok(trait_of(item.clone())) else {
        let errors = errors.into_compile_errors();
        return quote!(#errors #item);
    };
    let contract = parse::contract(options, &definition, &mut errors);
    let definition = without_our_attributes(definition);
    match errors.into_compile_errors() {
        None => expand::contract(&contract, definition),
        Some(errors) => {
            let definition = without_reported_mistakes(definition);
            quote!(#errors #[allow(async_fn_in_trait)] #definition)
        }
    }
}

fn trait_of(item: TokenStream) -> syn::Result<ItemTrait> {
    match syn::parse2(item)? {
        Item::Trait(definition) => Ok(definition),
        other => Err(syn::Error::new_spanned(
            other,
            "a contract is a trait: write `#[micro::service]` on `trait Greeter { … }`, \
             and serve its implementation with `GreeterServer::new`",
        )),
    }
}

fn without_our_attributes(mut definition: ItemTrait) -> ItemTrait {
    definition.attrs.retain(|attribute| !options::is_rpc(attribute));
    for item in &mut definition.items {
        if let TraitItem::Fn(method) = item {
            method.attrs.retain(|attribute| !options::is_rpc(attribute));
        }
    }
    definition
}

/// The trait stays, so that its implementations add no errors of their own, but without what the
/// compiler would report once more.
fn without_reported_mistakes(mut definition: ItemTrait) -> ItemTrait {
    for item in &mut definition.items {
        let TraitItem::Fn(method) = item else { continue };
        for input in &mut method.sig.inputs {
            if let FnArg::Typed(input) = input {
                input.attrs.clear();
                *input.pat = parse_quote!(_);
            }
        }
    }
    definition
}
