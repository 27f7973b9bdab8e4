//! What the user wrote, checked.

use std::collections::HashSet;
use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::visit_mut::{self, VisitMut};
use syn::{
    Attribute, Error, Expr, ExprLit, FnArg, GenericArgument, Generics, Ident, ItemTrait, Lifetime,
    Lit, Meta, Pat, PatType, Path, PathArguments, ReceiverKind, Result, ReturnType, Safety,
    Signature, Token, TraitItem, TraitItemFn, Type, TypeImplTrait, TypeReference, parse_quote,
};

use crate::errors::Errors;
use crate::{duration, names, options};

/// How many arguments `micro` can send.
const MAX_ARGUMENTS: usize = 12;

const NAME_EXAMPLE: &str = "name = \"greeter\"";

/// A contract, as far as it could be understood; complete when no error was found.
pub(super) struct Contract {
    /// The name on the wire.
    pub(super) name: String,
    pub(super) doc: String,
    pub(super) cfgs: Vec<Attribute>,
    /// Whether a mock is wanted.
    pub(super) mock: bool,
    pub(super) methods: Vec<Method>,
}

pub(super) struct Method {
    pub(super) ident: Ident,
    /// The name on the wire.
    pub(super) name: String,
    pub(super) doc: String,
    pub(super) docs: Vec<Attribute>,
    pub(super) deprecated: Vec<Attribute>,
    pub(super) cfgs: Vec<Attribute>,
    pub(super) idempotent: bool,
    pub(super) timeout: Option<Duration>,
    /// Where the implementation's `Context` stands, if it wants one.
    pub(super) context: Option<Span>,
    /// What the caller passes: everything but the context.
    pub(super) arguments: Vec<Argument>,
    /// Where they stand.
    pub(super) arguments_span: Span,
    pub(super) output: Output,
}

pub(super) struct Argument {
    pub(super) ident: Ident,
    pub(super) ty: Type,
}

pub(super) struct Output {
    /// What the method returns.
    pub(super) returned: Type,
    /// What of it the caller gets when all is well.
    pub(super) answer: Type,
    /// The method's own error, when it returns a `Result`.
    pub(super) error: Option<Type>,
}

pub(super) fn contract(
    options: TokenStream,
    definition: &ItemTrait,
    errors: &mut Errors,
) -> Contract {
    check_trait(definition, errors);
    let methods: Vec<Method> =
        definition.items.iter().filter_map(|item| method(item, errors)).collect();
    check_duplicates(&methods, errors);
    let options = contract_options(options, errors);
    Contract {
        name: contract_name(options.name, definition, errors),
        doc: doc_text(&definition.attrs),
        cfgs: attributes(&definition.attrs, "cfg"),
        mock: options.mock,
        methods,
    }
}

impl Argument {
    /// Whether the client takes this argument as `impl Into<String>`.
    pub(super) fn is_string(&self) -> bool {
        let Type::Path(ty) = ungrouped(&self.ty) else { return false };
        let segments: Vec<String> =
            ty.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        ty.qself.is_none()
            && matches!(segments.join("::").as_str(), "String" | "std::string::String")
    }
}

#[derive(Default)]
struct ContractOptions {
    name: Option<(String, Span)>,
    mock: bool,
}

fn contract_options(tokens: TokenStream, errors: &mut Errors) -> ContractOptions {
    let mut options = ContractOptions::default();
    for option in errors.ok(options::parse(tokens)).unwrap_or_default() {
        errors.ok(set_contract_option(&mut options, &option));
    }
    options
}

fn set_contract_option(options: &mut ContractOptions, option: &Meta) -> Result<()> {
    let path = option.path();
    if path.is_ident("mock") {
        options::switch_on(&mut options.mock, option, "mock")
    } else if path.is_ident("name") {
        let text = options::text(option, NAME_EXAMPLE)?;
        options::set(&mut options.name, option, (text.value(), text.span()))
    } else {
        Err(options::unknown(option, &format!("`{NAME_EXAMPLE}` or `mock`")))
    }
}

fn contract_name(
    name: Option<(String, Span)>,
    definition: &ItemTrait,
    errors: &mut Errors,
) -> String {
    let ident = definition.ident.unraw();
    let (name, span) =
        name.unwrap_or_else(|| (names::kebab_case(&ident.to_string()), ident.span()));
    if !names::is_contract(&name) {
        let form = names::CONTRACT;
        let advice = format!("write `#[micro::service({NAME_EXAMPLE})]` with {form}");
        errors
            .add(Error::new(span, format!("`{name}` cannot be the name of a contract: {advice}")));
    }
    name
}

fn check_trait(definition: &ItemTrait, errors: &mut Errors) {
    if !definition.generics.params.is_empty() {
        let advice = "it is the same for every server and client: write concrete types";
        errors.push(&definition.generics, format!("a contract cannot be generic, {advice}"));
    }
    if let Some(token) = &definition.unsafety {
        errors.push(token, "a contract cannot be unsafe: remove `unsafe`");
    }
    errors.ok(definition.modifiers.require_empty());
    if let Some(attribute) = definition.attrs.iter().find(|attribute| options::is_rpc(attribute)) {
        errors.push(attribute, "options of a contract stand in `#[micro::service(…)]`: move them");
    }
}

fn check_duplicates(methods: &[Method], errors: &mut Errors) {
    // Methods with `#[cfg]` are left out: perhaps only one of the two exists.
    let mut seen = HashSet::new();
    for method in methods.iter().filter(|method| method.cfgs.is_empty()) {
        if !seen.insert(&method.name) {
            let name = &method.name;
            let advice = "write another `#[rpc(name = \"…\")]`";
            errors.push(&method.ident, format!("another method is named `{name}`: {advice}"));
        }
    }
}

fn method(item: &TraitItem, errors: &mut Errors) -> Option<Method> {
    let TraitItem::Fn(method) = item else {
        errors.push(item, "a contract has only methods: move this out of the trait");
        return None;
    };
    check_method(method, errors);
    let options = method_options(method, errors);
    let (context, arguments) = arguments(&method.sig, errors);
    Some(Method {
        ident: method.sig.ident.clone(),
        name: options.name.unwrap_or_else(|| method.sig.ident.unraw().to_string()),
        doc: doc_text(&method.attrs),
        docs: attributes(&method.attrs, "doc"),
        deprecated: attributes(&method.attrs, "deprecated"),
        cfgs: attributes(&method.attrs, "cfg"),
        idempotent: options.idempotent,
        timeout: options.timeout,
        context,
        arguments_span: method.sig.paren_token.span.join(),
        arguments,
        output: output(&method.sig.output, errors),
    })
}

fn check_method(method: &TraitItemFn, errors: &mut Errors) {
    let TraitItemFn { sig, default, .. } = method;
    if sig.asyncness.is_none() {
        errors.push(sig.fn_token, "a call is asynchronous: write `async fn`");
    }
    if sig.constness.is_some() || sig.abi.is_some() || !matches!(sig.safety, Safety::Default) {
        errors.push(sig.fn_token, "a method has no other qualifiers: write only `async fn`");
    }
    check_generics(&sig.generics, errors);
    check_receiver(sig, errors);
    if let Some(body) = default {
        let advice = "end the method with `;` and write the body where the trait is implemented";
        errors.push(body, format!("a contract has no bodies: {advice}"));
    }
    if sig.ident == "new" || sig.ident == "named" {
        let (ident, name) = (&sig.ident, sig.ident.to_string());
        let advice =
            format!("write another, with `#[rpc(name = \"{name}\")]` to keep it on the wire");
        errors.push(ident, format!("the client has a constructor of this name: {advice}"));
    }
}

fn check_generics(generics: &Generics, errors: &mut Errors) {
    if !generics.params.is_empty() {
        let advice = "both sides must know the types: write concrete ones";
        errors.push(generics, format!("a method cannot be generic, {advice}"));
    }
}

fn check_receiver(sig: &Signature, errors: &mut Errors) {
    let advice = "all requests share the implementation: write `&self`";
    match sig.receiver() {
        None => errors.push(&sig.ident, format!("`&self` is missing, {advice} as first parameter")),
        Some(receiver) => match &receiver.kind {
            ReceiverKind::Reference(_, None, None) => {}
            _ => errors.push(receiver, advice),
        },
    }
}

#[derive(Default)]
struct MethodOptions {
    idempotent: bool,
    timeout: Option<Duration>,
    name: Option<String>,
}

fn method_options(method: &TraitItemFn, errors: &mut Errors) -> MethodOptions {
    let mut options = MethodOptions::default();
    for option in options::rpc(&method.attrs, errors) {
        errors.ok(set_method_option(&mut options, &option));
    }
    let name = method.sig.ident.unraw().to_string();
    if options.name.is_none() && !names::is_method(&name) {
        errors.add(bad_method_name(&name, method.sig.ident.span()));
    }
    options
}

fn set_method_option(options: &mut MethodOptions, option: &Meta) -> Result<()> {
    let path = option.path();
    if path.is_ident("idempotent") {
        options::switch_on(&mut options.idempotent, option, "idempotent")
    } else if path.is_ident("timeout") {
        let text = options::text(option, "timeout = \"200ms\"")?;
        let timeout = duration::parse(&text.value()).map_err(|e| Error::new(text.span(), e))?;
        options::set(&mut options.timeout, option, timeout)
    } else if path.is_ident("name") {
        let text = options::text(option, "name = \"hello\"")?;
        options::set(&mut options.name, option, text.value())?;
        if names::is_method(&text.value()) {
            return Ok(());
        }
        Err(bad_method_name(&text.value(), text.span()))
    } else {
        Err(options::unknown(option, "`idempotent`, `timeout = \"200ms\"` or `name = \"hello\"`"))
    }
}

fn bad_method_name(name: &str, span: Span) -> Error {
    let advice = format!("write `#[rpc(name = \"hello\")]` with {}", names::METHOD);
    Error::new(span, format!("`{name}` cannot be the name of a method: {advice}"))
}

/// Returns where the context stands, if it is the first argument, and the others.
fn arguments(sig: &Signature, errors: &mut Errors) -> (Option<Span>, Vec<Argument>) {
    let typed = sig.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(input) => Some(input),
        FnArg::Receiver(_) => None,
    });
    let inputs: Vec<&PatType> = typed.collect();
    let context = inputs.first().filter(|input| is_context(&input.ty));
    let context = context.map(|input| input.ty.span());
    let inputs = inputs.into_iter().skip(context.iter().len());
    let arguments: Vec<_> = inputs.filter_map(|input| argument(input, errors)).collect();
    if arguments.len() > MAX_ARGUMENTS {
        let advice = format!("a method has at most {MAX_ARGUMENTS} arguments: write a struct");
        errors.push(&arguments[MAX_ARGUMENTS].ident, advice);
    }
    (context, arguments)
}

fn argument(input: &PatType, errors: &mut Errors) -> Option<Argument> {
    if let Some(attribute) = input.attrs.first() {
        errors.push(attribute, "an argument has no attributes here: remove this");
    }
    if let Some(mutability) = context_mutability(&input.ty) {
        errors.push(
            input,
            match mutability {
                None => "the context comes first: move this right behind `&self`",
                Some(_) => "the context is only read: write `&micro::Context`",
            },
        );
        return None;
    }
    check_type(&input.ty, "take it owned, for example `String` instead of `&str`", errors);
    match &*input.pat {
        Pat::Ident(pat)
            if pat.by_ref.is_none() && pat.mutability.is_none() && pat.subpat.is_none() =>
        {
            Some(Argument { ident: pat.ident.clone(), ty: (*input.ty).clone() })
        }
        pat => {
            errors
                .push(pat, "arguments travel by name: write a plain name, such as `name: String`");
            None
        }
    }
}

/// Whether this is `&Context`.
fn is_context(ty: &Type) -> bool {
    matches!(context_mutability(ty), Some(None))
}

/// Returns the `mut` there may be in a borrow of a `Context`, by any path.
fn context_mutability(ty: &Type) -> Option<Option<Token![mut]>> {
    let Type::Reference(TypeReference { mutability, elem, .. }) = ungrouped(ty) else {
        return None;
    };
    let Type::Path(path) = ungrouped(elem) else { return None };
    let last = path.path.segments.last()?;
    (last.ident == "Context").then_some(*mutability)
}

fn output(output: &ReturnType, errors: &mut Errors) -> Output {
    let returned: Type = match output {
        ReturnType::Default => parse_quote!(()),
        ReturnType::Type(_, ty) => (**ty).clone(),
    };
    check_type(&returned, "return it owned, for example `String` instead of `&str`", errors);
    let types = result_arguments(&returned).map(result_types);
    if let Some(None) = types {
        let advice = "cannot see the error behind an alias of `Result`: write `Result<T, E>`";
        errors.push(&returned, format!("`#[micro::service]` {advice}"));
    }
    match types.flatten() {
        Some((answer, error)) => Output { returned, answer, error: Some(error) },
        None => Output { answer: returned.clone(), returned, error: None },
    }
}

/// Returns what is between the angle brackets when the type is a path that ends in `Result`.
fn result_arguments(ty: &Type) -> Option<&PathArguments> {
    let Type::Path(path) = ungrouped(ty) else { return None };
    let last = path.path.segments.last()?;
    (last.ident == "Result").then_some(&last.arguments)
}

/// Returns `T` and `E` of `Result<T, E>`.
fn result_types(arguments: &PathArguments) -> Option<(Type, Type)> {
    let PathArguments::AngleBracketed(arguments) = arguments else { return None };
    let mut arguments = arguments.args.iter();
    match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(GenericArgument::Type(value)), Some(GenericArgument::Type(error)), None) => {
            Some((value.clone(), error.clone()))
        }
        _ => None,
    }
}

/// Refuses types that cannot be sent, or mean something else outside the trait.
fn check_type(ty: &Type, owned: &str, errors: &mut Errors) {
    TypeCheck { owned, errors }.visit_type_mut(&mut ty.clone());
}

struct TypeCheck<'a> {
    /// What to do instead of borrowing.
    owned: &'a str,
    errors: &'a mut Errors,
}

impl VisitMut for TypeCheck<'_> {
    fn visit_type_reference_mut(&mut self, ty: &mut TypeReference) {
        self.errors.push(ty, format!("a borrow ends at the network: {}", self.owned));
    }

    fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
        self.errors.push(lifetime, format!("a borrow ends at the network: {}", self.owned));
    }

    fn visit_type_impl_trait_mut(&mut self, ty: &mut TypeImplTrait) {
        self.errors.push(ty, "both sides must know the type: write a concrete one");
    }

    fn visit_path_mut(&mut self, path: &mut Path) {
        match path.segments.first() {
            Some(first) if first.ident == "Self" => {
                self.errors.push(first, "the client has another `Self`: write a concrete type");
            }
            _ => visit_mut::visit_path_mut(self, path),
        }
    }
}

/// Looks through the groups that `macro_rules` puts around types, and parentheses.
fn ungrouped(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => ungrouped(&group.elem),
        Type::Paren(paren) => ungrouped(&paren.elem),
        ty => ty,
    }
}

fn attributes(attributes: &[Attribute], name: &str) -> Vec<Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident(name)).cloned().collect()
}

/// Returns the text of the documentation, without the space that follows `///`.
fn doc_text(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(doc) if doc.path.is_ident("doc") => match &doc.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    });
    let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(&line).to_owned());
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}
