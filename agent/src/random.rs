//! Randomness of everything but keys: jitter and the portal's form tokens.

use aws_lc_rs::rand;
use thiserror::Error;

/// The operating system gave no randomness.
#[derive(Debug, Error)]
#[error("the operating system gives no randomness")]
pub(crate) struct NoRandomness;

/// Bytes that nobody can guess.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// Uniform in 0..1, for jitter: one half if there is no randomness, because a spread is a courtesy and not a secret.
pub(crate) fn fraction() -> f64 {
    bytes::<4>().map_or(0.5, |bytes| f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0))
}
