//! Protobuf in small buffers.
//!
//! tonic gives each side of each call 8 KiB before anything is said. A call here carries some hundred bytes, and an agent's
//! stream, which is open for weeks, carries a few kilobytes in a day: with ten thousand of them the empty buffers would be
//! the most that a broker holds. They grow when a message needs it.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// A buffer at first, and the steps that it grows by, in bytes.
const BUFFER: usize = 1024;

/// How much is put together before it is written, in bytes: tonic's own choice.
const YIELD_AT: usize = 32 * 1024;

/// `application/grpc+proto`, as prost writes it.
#[derive(Debug)]
pub struct SmallBuffers<T, U>(PhantomData<fn(T) -> U>);

impl<T, U> Default for SmallBuffers<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SmallBuffers<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER, YIELD_AT))
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER, YIELD_AT))
    }
}
