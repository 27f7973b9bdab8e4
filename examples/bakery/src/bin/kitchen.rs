//! Bakes bread and cake.

use bakery::{Kitchen, KitchenError, KitchenServer};

struct Oven;

impl Kitchen for Oven {
    async fn bake(&self, kind: String) -> Result<String, KitchenError> {
        match kind.as_str() {
            "bread" | "cake" => Ok(format!("{kind} from oven {}", std::process::id())),
            _ => Err(KitchenError::UnknownKind { kind }),
        }
    }
}

#[tokio::main]
async fn main() -> micro::Result<()> {
    bakery::log();
    micro::Service::new().serve(KitchenServer::new(Oven)).run().await
}
