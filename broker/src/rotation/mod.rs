//! Rotation: signing keys, client credentials and the CA are turned by one gated mechanism.

mod record;

pub use record::{Pause, Phase, RotationSubject, StoredRotation, SubjectError, Urgency};
