//! `micro describe`: what a service serves.

use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use micro::dynamic::Description;
use micro::registry::Endpoint;

use crate::completions;
use crate::failure::Failure;
use crate::print::{self, Color};
use crate::types;
use crate::world::{self, World};

/// Says what a service serves: methods, types, errors.
#[derive(Args, Debug)]
pub(crate) struct Describe {
    /// Service to look at
    #[arg(value_name = "SERVICE", add = ArgValueCompleter::new(completions::services))]
    service: String,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// What nodes answer at /describe, for each version
    Json,
    /// The same as YAML
    Yaml,
    /// How it is called through a gateway, in OpenAPI 3.1
    Openapi,
}

impl Describe {
    pub(crate) async fn run(self, world: &World) -> Result<(), Failure> {
        let client = world.client().await?;
        let service = &self.service;
        world::versions(client.registry(), service).await?;
        let descriptions = client.describe(service).await?;
        match self.output {
            Format::Text => {
                let each: Vec<_> = descriptions.iter().map(described).collect();
                print::text(&each.join("\n"))
            }
            Format::Json => print::json(&descriptions),
            Format::Yaml => print::yaml(&descriptions),
            Format::Openapi => print::json(&micro_gateway::openapi(descriptions)),
        }
    }
}

fn described(description: &Description) -> String {
    let Description { service, version, node, contracts, .. } = description;
    let told = match node {
        Some(node) => format!("as node {} says", print::plain(node)),
        None => "as the registry says; no node answers, so types are unknown".to_owned(),
    };
    let [service, version] = [service, version].map(|name| print::plain(name));
    let mut text = format!("{service} {version}, {told}\n");
    for contract in contracts {
        text += &format!("\n{}\n", print::plain(&contract.name));
        text += &documented(&contract.doc, "  ");
        for method in &contract.methods {
            text += &format!("\n  {}\n", signature(method));
            text += &documented(&method.doc, "    ");
            if let Some(error) = &method.error {
                text += &format!("    fails with {}\n", types::text(Some(error)));
            }
        }
    }
    text
}

fn signature(method: &Endpoint) -> String {
    let arguments = types::arguments(method.request.as_ref());
    let answer = types::text(method.response.as_ref());
    let name = print::painted(Color::Green, &print::plain(&method.name));
    let signature = format!("{name}({arguments}) -> {answer}");
    match method.idempotent {
        true => format!("{signature}  {}", print::painted(Color::Dim, "idempotent")),
        false => signature,
    }
}

/// A doc comment, indented.
fn documented(doc: &str, indent: &str) -> String {
    let line = |line| format!("{}\n", format!("{indent}{}", print::plain(line)).trim_end());
    doc.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use micro::dynamic::ContractDescription;
    use serde_json::json;

    use super::*;

    /// Whatever a node says of itself, it does not speak to the terminal.
    #[test]
    fn nodes_do_not_reach_the_terminal() {
        const CLEAR: &str = "\u{1b}[2J\u{9b}\r";
        let nasty = || CLEAR.to_owned();
        let mut method = Endpoint::new(CLEAR, CLEAR);
        method.doc = format!("{CLEAR}\nsecond line");
        method.request = Some(json!({ "properties": { (CLEAR): { "type": CLEAR } } }));
        method.response = Some(json!({ "const": CLEAR }));
        method.error = Some(json!({ "enum": [CLEAR] }));
        let mut contract = ContractDescription::default();
        (contract.name, contract.doc, contract.methods) = (nasty(), nasty(), vec![method]);
        let mut description = Description::default();
        (description.service, description.version) = (nasty(), nasty());
        (description.node, description.contracts) = (Some(nasty()), vec![contract]);
        let text = described(&description);
        assert!(text.contains("\n    second line\n"), "{text:?}");
        for control in ["\u{1b}[2J", "\u{9b}", "\r"] {
            assert!(!text.contains(control), "{text:?}");
        }
    }
}
