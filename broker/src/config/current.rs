//! A setting that can change while the broker runs: whoever uses it asks each time.

use std::fmt;
use std::sync::Arc;

/// What a setting is at the moment.
pub struct Current<T>(Arc<dyn Fn() -> T + Send + Sync>);

impl<T> Current<T> {
    /// Whatever this says when it is asked.
    pub fn of(ask: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// As it is now.
    pub fn now(&self) -> T {
        (self.0)()
    }
}

impl<T> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: fmt::Debug> fmt::Debug for Current<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.now().fmt(f)
    }
}

/// One that never changes.
impl<T: Clone + Send + Sync + 'static> From<T> for Current<T> {
    fn from(always: T) -> Self {
        Self::of(move || always.clone())
    }
}
