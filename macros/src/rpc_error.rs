//! `#[derive(RpcError)]`: a code per variant.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{
    Attribute, Data, DataStruct, DeriveInput, Error, Expr, ExprLit, Ident, Lit, Meta, Result,
    Variant,
};

use crate::errors::Errors;
use crate::{names, options};

const EXAMPLE: &str = "code = not_found";

const CODES: [&str; 16] = [
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];

pub(crate) fn expand(item: TokenStream) -> TokenStream {
    let input = match syn::parse2::<DeriveInput>(item) {
        Ok(input) => input,
        Err(error) => return error.into_compile_error(),
    };
    let mut errors = Errors::default();
    check(&input, &mut errors);
    // With other mistakes the implementation is there all the same: only ours are reported.
    let expanded = errors.is_empty().then(|| implementation(&input, &mut errors));
    let errors = errors.into_compile_errors();
    quote!(#errors #expanded)
}

/// Refuses what has no implementation at all.
fn check(input: &DeriveInput, errors: &mut Errors) {
    if let Data::Union(data) = &input.data {
        errors.push(data.union_token, "a union cannot be an error: write an enum or a struct");
    }
    if !input.generics.params.is_empty() {
        let advice = "both sides must know the type: write concrete types";
        errors.push(&input.generics, format!("an error cannot be generic, {advice}"));
    }
}

fn implementation(input: &DeriveInput, errors: &mut Errors) -> TokenStream {
    let name = &input.ident;
    let default = code(&input.attrs, errors).unwrap_or_else(|| format_ident!("Unknown"));
    let body = match &input.data {
        Data::Enum(data) if data.variants.is_empty() => quote!(match *self {}),
        Data::Enum(data) => {
            let arms = data.variants.iter().map(|variant| arm(variant, &default, errors));
            quote!(match self { #(#arms)* })
        }
        Data::Struct(DataStruct { fields, .. }) => {
            for field in fields {
                refuse(&field.attrs, errors);
            }
            quote!(::micro::Code::#default)
        }
        Data::Union(_) => unreachable!("it was refused"),
    };
    let conditions = &input.generics.where_clause;
    quote! {
        #[automatically_derived]
        #[allow(deprecated)]
        impl ::micro::RpcError for #name #conditions {
            fn code(&self) -> ::micro::Code {
                #body
            }
        }
    }
}

fn arm(variant: &Variant, default: &Ident, errors: &mut Errors) -> TokenStream {
    for field in &variant.fields {
        refuse(&field.attrs, errors);
    }
    let name = &variant.ident;
    let code = code(&variant.attrs, errors).unwrap_or_else(|| default.clone());
    quote!(Self::#name { .. } => ::micro::Code::#code,)
}

fn refuse(attributes: &[Attribute], errors: &mut Errors) {
    for attribute in attributes.iter().filter(|attribute| options::is_rpc(attribute)) {
        errors.push(attribute, "a field has no code: move this to the variant or the type");
    }
}

/// Returns the variant of `Code` that `#[rpc(code = …)]` names.
fn code(attributes: &[Attribute], errors: &mut Errors) -> Option<Ident> {
    let mut code = None;
    for option in options::rpc(attributes, errors) {
        let parsed = parse_option(&option).and_then(|it| options::set(&mut code, &option, it));
        errors.ok(parsed);
    }
    code
}

fn parse_option(option: &Meta) -> Result<Ident> {
    if !option.path().is_ident("code") {
        return Err(options::unknown(option, &format!("`{EXAMPLE}`")));
    }
    let value = options::value(option, EXAMPLE)?;
    let name = match value {
        Expr::Path(path) => path.path.get_ident().map(Ident::to_string),
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    };
    match name.filter(|name| CODES.contains(&name.as_str())) {
        Some(name) => Ok(format_ident!("{}", names::pascal_case(&name))),
        None => {
            let codes = CODES.join(", ");
            Err(Error::new_spanned(value, format!("unknown code: write one of {codes}")))
        }
    }
}
