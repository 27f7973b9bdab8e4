//! The options in `#[rpc(…)]` and `#[micro::service(…)]`.

use proc_macro2::TokenStream;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Attribute, Error, Expr, ExprLit, Lit, LitStr, Meta, Result, Token};

use crate::errors::Errors;

/// Returns the options of every `#[rpc(…)]` among `attributes`.
pub(crate) fn rpc(attributes: &[Attribute], errors: &mut Errors) -> Vec<Meta> {
    let ours = attributes.iter().filter(|attribute| is_rpc(attribute));
    let lists = ours.filter_map(|attribute| {
        let list = attribute.meta.require_list().map_err(|_| {
            Error::new_spanned(attribute, "write options in parentheses: `#[rpc(…)]`")
        });
        errors.ok(list.and_then(|list| parse(list.tokens.clone())))
    });
    lists.flatten().collect()
}

/// Whether this is an attribute only our macros understand.
pub(crate) fn is_rpc(attribute: &Attribute) -> bool {
    attribute.path().is_ident("rpc")
}

/// Parses a list of options: `idempotent, timeout = "200ms"`.
pub(crate) fn parse(tokens: TokenStream) -> Result<Vec<Meta>> {
    let options = Punctuated::<Meta, Token![,]>::parse_terminated.parse2(tokens);
    options.map(|options| options.into_iter().collect()).map_err(|error| {
        let advice = "write options as `option` or `option = \"value\"`, with commas between";
        Error::new(error.span(), format!("{error}: {advice}"))
    })
}

/// Returns the value of `option = value`; `example` is what to write instead of anything else.
pub(crate) fn value<'a>(option: &'a Meta, example: &str) -> Result<&'a Expr> {
    match option {
        Meta::NameValue(pair) => Ok(&pair.value),
        _ => Err(Error::new_spanned(option, format!("a value is missing: write `{example}`"))),
    }
}

/// Returns the text of `option = "text"`.
pub(crate) fn text<'a>(option: &'a Meta, example: &str) -> Result<&'a LitStr> {
    match value(option, example)? {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(text),
        other => Err(Error::new_spanned(other, format!("expected text: write `{example}`"))),
    }
}

/// Sets an option that is only there or not.
pub(crate) fn switch_on(slot: &mut bool, option: &Meta, name: &str) -> Result<()> {
    option.require_path_only().map_err(|_| {
        let advice = format!("this option has no value: write `{name}`, or leave it out");
        Error::new_spanned(option, advice)
    })?;
    *slot = true;
    Ok(())
}

/// Sets an option that may be given once.
pub(crate) fn set<T>(slot: &mut Option<T>, option: &Meta, value: T) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::new_spanned(option, "this option is given twice: keep one")),
    }
}

/// The error for an option that does not exist.
pub(crate) fn unknown(option: &Meta, known: &str) -> Error {
    Error::new_spanned(option.path(), format!("unknown option: write {known}"))
}
