//! volo-thrift in both its modes: calls that share a connection, and one call at a time on each of a
//! pool of connections, which is its default.
//!
//! Messages are written here in the shape that volo's generator gives them, which needs libgit2 to be
//! built. One struct with one field stands for arguments and for answers. The pool has as many
//! connections as there are calls in flight, whatever the comparison says.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use pilota::thrift::{
    Message, ProtocolExceptionKind, TAsyncInputProtocol, TInputProtocol, TLengthProtocol,
    TLengthProtocolExt, TMessageIdentifier, TOutputProtocol, TOutputProtocolExt, TStructIdentifier,
    TType, ThriftException, new_protocol_exception,
};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use volo::net::{Address, incoming::DefaultIncoming};
use volo::service::{BoxCloneService, Service};
use volo_thrift::client::ClientBuilder;
use volo_thrift::context::{ClientContext, ServerContext};
use volo_thrift::{Client, ClientError, EntryMessage, ServerError};

use super::wide::{Wide, with_fields};
use super::{Caller, Contender, Place, Server};

/// Calls share a connection.
#[derive(Debug)]
pub(crate) struct Volo;

impl Contender for Volo {
    type Caller = VoloCaller;

    async fn serve(_: &Place) -> Result<Server> {
        serve(true).await
    }

    async fn connect(address: &str, connections: usize) -> Result<Vec<VoloCaller>> {
        connect(address, connections, true)
    }
}

/// A pool of connections with one call each.
#[derive(Debug)]
pub(crate) struct VoloPool;

impl Contender for VoloPool {
    type Caller = VoloCaller;

    async fn serve(_: &Place) -> Result<Server> {
        serve(false).await
    }

    async fn connect(address: &str, connections: usize) -> Result<Vec<VoloCaller>> {
        connect(address, connections, false)
    }
}

async fn serve(multiplex: bool) -> Result<Server> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let server = volo_thrift::server::Server::new(Echo).multiplex(multiplex);
    let accepting = tokio::spawn(async move {
        if let Err(error) = server.run(DefaultIncoming::from(listener)).await {
            eprintln!("volo's server ended: {error}");
        }
    });
    Ok(Server { address, accepting: AbortOnDropHandle::new(accepting) })
}

fn connect(address: &str, connections: usize, multiplex: bool) -> Result<Vec<VoloCaller>> {
    let address: SocketAddr = address.parse()?;
    let client = || {
        ClientBuilder::new("bench", MakeCaller)
            .address(Address::from(address))
            .multiplex(multiplex)
            .build()
    };
    Ok((0..connections).map(|_| client()).collect())
}

type Transport = BoxCloneService<ClientContext, Echoed, Option<Echoed>, ClientError>;

#[derive(Clone)]
pub(crate) struct VoloCaller(Client<Transport>);

impl Caller for VoloCaller {
    type Reply = Bytes;

    async fn call(&self, payload: &[u8]) -> Result<Bytes> {
        match self.send(ECHO, Echoed::Bytes(Bytes::copy_from_slice(payload))).await? {
            Echoed::Bytes(bytes) => Ok(bytes),
            Echoed::Wide(_) => bail!("the answer is to another call"),
        }
    }

    async fn call_wide(&self, wide: &Wide) -> Result<Wide> {
        match self.send(ECHO_WIDE, Echoed::Wide(Box::new(wide.clone()))).await? {
            Echoed::Wide(wide) => Ok(*wide),
            Echoed::Bytes(_) => bail!("the answer is to another call"),
        }
    }
}

impl VoloCaller {
    async fn send(&self, method: &str, message: Echoed) -> Result<Echoed> {
        let mut context = self.0.make_cx(method, false);
        self.0.call(&mut context, message).await?.context("no answer")
    }
}

struct MakeCaller;

impl volo::client::MkClient<Client<Transport>> for MakeCaller {
    type Target = VoloCaller;

    fn mk_client(&self, client: Client<Transport>) -> VoloCaller {
        VoloCaller(client)
    }
}

/// Gives any message back.
struct Echo;

impl Service<ServerContext, Echoed> for Echo {
    type Response = Echoed;
    type Error = ServerError;

    async fn call(&self, _: &mut ServerContext, message: Echoed) -> Result<Echoed, ServerError> {
        Ok(message)
    }
}

/// Arguments or answer of a method, which its name tells.
#[derive(Clone, Debug)]
enum Echoed {
    Bytes(Bytes),
    Wide(Box<Wide>),
}

impl EntryMessage for Echoed {
    fn encode<T: TOutputProtocol>(&self, protocol: &mut T) -> Result<(), ThriftException> {
        protocol.write_struct_begin(&MESSAGE)?;
        match self {
            Self::Bytes(bytes) => protocol.write_bytes_field(1, bytes.clone())?,
            Self::Wide(wide) => protocol.write_struct_field(1, &**wide, TType::Struct)?,
        }
        protocol.write_field_stop()?;
        protocol.write_struct_end()
    }

    fn decode<T: TInputProtocol>(
        protocol: &mut T,
        call: &TMessageIdentifier,
    ) -> Result<Self, ThriftException> {
        let mut message = None;
        protocol.read_struct_begin()?;
        loop {
            let field = protocol.read_field_begin()?;
            match field.id {
                _ if field.field_type == TType::Stop => break,
                Some(1) if &*call.name == ECHO => {
                    message = Some(Self::Bytes(protocol.read_bytes()?));
                }
                Some(1) => message = Some(Self::Wide(Box::decode(protocol)?)),
                _ => {
                    protocol.skip(field.field_type)?;
                }
            }
            protocol.read_field_end()?;
        }
        protocol.read_struct_end()?;
        message.ok_or_else(|| invalid("the message is missing"))
    }

    async fn decode_async<T: TAsyncInputProtocol>(
        _: &mut T,
        _: &TMessageIdentifier,
    ) -> Result<Self, ThriftException> {
        Err(invalid(FRAMED))
    }

    fn size<T: TLengthProtocol>(&self, protocol: &mut T) -> usize {
        let field = match self {
            Self::Bytes(bytes) => protocol.bytes_field_len(Some(1), bytes),
            Self::Wide(wide) => protocol.struct_field_len(Some(1), &**wide),
        };
        let around = protocol.struct_begin_len(&MESSAGE) + protocol.struct_end_len();
        around + field + protocol.field_stop_len()
    }
}

macro_rules! message {
    ($($number:ident $n:tt, $offset:ident $o:tt, $share:ident $s:tt, $flag:ident $f:tt, $code:ident $c:tt;)*) => {
        impl Message for Wide {
            fn encode<T: TOutputProtocol>(&self, protocol: &mut T) -> Result<(), ThriftException> {
                protocol.write_struct_begin(&WIDE)?;
                $(
                    protocol.write_i64_field($n, self.$number as i64)?;
                    protocol.write_i64_field($o, self.$offset)?;
                    protocol.write_double_field($s, self.$share)?;
                    protocol.write_bool_field($f, self.$flag)?;
                    protocol.write_i32_field($c, self.$code as i32)?;
                )*
                protocol.write_field_stop()?;
                protocol.write_struct_end()
            }

            fn decode<T: TInputProtocol>(protocol: &mut T) -> Result<Self, ThriftException> {
                let mut wide = Self::default();
                protocol.read_struct_begin()?;
                loop {
                    let field = protocol.read_field_begin()?;
                    match field.id {
                        _ if field.field_type == TType::Stop => break,
                        $(
                            Some($n) => wide.$number = protocol.read_i64()? as u64,
                            Some($o) => wide.$offset = protocol.read_i64()?,
                            Some($s) => wide.$share = protocol.read_double()?,
                            Some($f) => wide.$flag = protocol.read_bool()?,
                            Some($c) => wide.$code = protocol.read_i32()? as u32,
                        )*
                        _ => {
                    protocol.skip(field.field_type)?;
                }
                    }
                    protocol.read_field_end()?;
                }
                protocol.read_struct_end()?;
                Ok(wide)
            }

            async fn decode_async<T: TAsyncInputProtocol>(_: &mut T) -> Result<Self, ThriftException> {
                Err(invalid(FRAMED))
            }

            fn size<T: TLengthProtocol>(&self, protocol: &mut T) -> usize {
                let mut size = protocol.struct_begin_len(&WIDE);
                $(
                    size += protocol.i64_field_len(Some($n), self.$number as i64);
                    size += protocol.i64_field_len(Some($o), self.$offset);
                    size += protocol.double_field_len(Some($s), self.$share);
                    size += protocol.bool_field_len(Some($f), self.$flag);
                    size += protocol.i32_field_len(Some($c), self.$code as i32);
                )*
                size + protocol.field_stop_len() + protocol.struct_end_len()
            }
        }
    };
}

with_fields!(message);

fn invalid(why: &str) -> ThriftException {
    new_protocol_exception(ProtocolExceptionKind::InvalidData, why.to_owned())
}

const FRAMED: &str = "messages are framed, so they are there before they are read";
const MESSAGE: TStructIdentifier = TStructIdentifier { name: "Message" };
const WIDE: TStructIdentifier = TStructIdentifier { name: "Wide" };
const ECHO: &str = "echo";
const ECHO_WIDE: &str = "echo_wide";
