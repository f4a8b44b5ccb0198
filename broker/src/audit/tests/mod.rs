//! What the audit promises: nothing that is changed goes unseen, nothing that is well raises an alarm, nothing is lost.

use std::path::Path;

use super::*;

/// What a test hears of what was noted.
pub(crate) struct Heard(pub(in crate::audit) mpsc::UnboundedReceiver<Order>);

impl Heard {
    /// All that was noted so far.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        let orders = std::iter::from_fn(|| self.0.try_recv().ok());
        orders.filter_map(|order| if let Order::Note(noted) = order { Some(noted.event) } else { None }).collect()
    }
}
