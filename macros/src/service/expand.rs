//! The code made of a contract. It only calls functions of `micro::__private`.

use proc_macro2::{Delimiter, Group, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Ident, Index, ItemTrait, ReturnType, TraitItem, Type, Visibility, parse_quote};

use super::mock;
use super::parse::{Argument, Contract, Method};

pub(super) fn contract(contract: &Contract, definition: ItemTrait) -> TokenStream {
    let names = Names::new(contract, &definition);
    let types = types(&names);
    let methods = contract.methods.iter().map(|method| method_items(&names, method));
    let client = client(&names, &contract.methods);
    let registration = registration(&names, contract);
    let (mock_type, mock) = mock::expand(&names).unzip();
    let definition = definition_for_servers(definition);
    let cfgs = &contract.cfgs;
    quote! {
        #definition
        #types
        #mock_type
        #(#cfgs)*
        #[allow(clippy::all, clippy::pedantic, dead_code, deprecated, nonstandard_style, unused_imports)]
        const _: () = {
            use ::micro::__private::ReturnedOther as _;
            #(#methods)*
            #client
            #registration
            #mock
        };
    }
}

/// What the generated items are called.
pub(super) struct Names<'a> {
    pub(super) contract: &'a Contract,
    pub(super) visibility: Visibility,
    pub(super) definition: Ident,
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

/// What is known of the method, as a type.
fn method_items(names: &Names<'_>, method: &Method) -> TokenStream {
    let (marker, cfgs) = (marker(method), &method.cfgs);
    let info = info(names, method);
    let arguments = argument_names(method);
    let types = argument_types(method);
    let fallible = method.output.error.is_some();
    let always_answers = (!fallible).then(|| assert_always_answers(method));
    quote! {
        #(#cfgs)*
        enum #marker {}

        #(#cfgs)*
        impl ::micro::__private::Method for #marker {
            const INFO: &'static ::micro::__private::MethodInfo = &#info;
            const NAMES: &'static [&'static str] = &[#(#arguments),*];
            type Arguments = #types;
        }

        #always_answers
    }
}

fn info(names: &Names<'_>, method: &Method) -> TokenStream {
    let (contract, name, doc) = (&names.contract.name, &method.name, &method.doc);
    let idempotent = method.idempotent.then(|| quote!(.idempotent()));
    let timeout = method.timeout.map(|timeout| {
        let nanos = u64::try_from(timeout.as_nanos()).expect("it was parsed from a u64 of them");
        quote!(.timeout(::core::time::Duration::from_nanos(#nanos)))
    });
    let doc = (!doc.is_empty()).then(|| quote!(.doc(#doc)));
    quote!(::micro::__private::MethodInfo::new(#contract, #name) #idempotent #timeout #doc)
}

fn argument_names(method: &Method) -> impl Iterator<Item = String> {
    method.arguments.iter().map(|argument| argument.ident.unraw().to_string())
}

/// The arguments' tuple, in whose place the compiler says that one of them does not travel.
pub(super) fn argument_types(method: &Method) -> TokenStream {
    let types = method.arguments.iter().map(|argument| &argument.ty);
    let mut tuple = Group::new(Delimiter::Parenthesis, quote!(#(#types,)*));
    tuple.set_span(method.arguments_span);
    tuple.into_token_stream()
}

/// Refuses a `Result` that is not named so, as its error would not be seen.
fn assert_always_answers(method: &Method) -> TokenStream {
    let (answer, cfgs) = (&method.output.answer, &method.cfgs);
    let is_result = quote!(::micro::__private::Returned::<#answer>::IS_RESULT);
    quote_spanned! {answer.span()=>
        #(#cfgs)*
        const _: () = ::micro::__private::always_answers(#is_result);
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
    let Method { ident, docs, deprecated, cfgs, .. } = method;
    let marker = marker(method);
    let default_doc = format!("Calls `{}`.", method.name);
    let default_doc = docs.is_empty().then(|| quote!(#[doc = #default_doc]));
    let parameters = method.arguments.iter().map(|argument| match argument {
        Argument { ident, ty } if argument.is_string() => {
            quote!(#ident: impl ::core::convert::Into<#ty>)
        }
        Argument { ident, ty } => quote!(#ident: #ty),
    });
    let values = method.arguments.iter().map(|argument| match argument {
        Argument { ident, .. } if argument.is_string() => {
            quote!(::core::convert::Into::into(#ident))
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
        #(#deprecated)*
        #visibility fn #ident(&self, #(#parameters),*) -> ::micro::Call<#answer, #error> {
            ::micro::__private::call::<#marker, _, _>(&self.target, (#(#values,)*))
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
    let marker = marker(method);
    let answer = &method.output.answer;
    let add = match &method.output.error {
        Some(error) => quote!(fallible::<#marker, #answer, #error, _, _, _>),
        None => quote!(infallible::<#marker, #answer, _, _, _>),
    };
    let context = method.context.map_or_else(Span::mixed_site, |span| {
        // Where it stands in the trait, so that the compiler says there that it is another type.
        Span::mixed_site().located_at(span)
    });
    let context = Ident::new("context", context);
    let pass_context = method.context.map(|_| quote_spanned!(context.span()=> &#context,));
    let context = if method.context.is_some() { quote!(#context) } else { quote!(_) };
    let arguments = (0..method.arguments.len()).map(Index::from);
    // The trait is named, because the implementation may have an inherent method of this name.
    quote! {
        #(#cfgs)*
        let contract = ::micro::__private::#add(
            contract,
            &server.implementation,
            |implementation, #context, arguments| async move {
                <T as #definition>::#ident(&implementation, #pass_context #(arguments.#arguments),*)
                    .await
            },
        );
    }
}

/// The type that stands for the method. Two methods that the trait can have never get the same one.
pub(super) fn marker(method: &Method) -> Ident {
    format_ident!("__{}", method.ident, span = Span::call_site())
}
