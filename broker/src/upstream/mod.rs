//! Homes without agent: the broker as the client of their identity providers.

mod presets;

pub use presets::{ANY, Preset, PresetError, Setup};
