//! What is being answered on one connection, and since when nothing is.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// The requests of one connection: none yet.
#[derive(Clone, Debug, Default)]
pub struct Requests(Arc<watch::Sender<usize>>);

impl Requests {
    /// One more, until what is returned is dropped.
    pub fn begin(&self) -> Running {
        self.0.send_modify(|running| *running += 1);
        Running(self.0.clone())
    }

    /// Ends when nothing has been answered for so long.
    pub fn rested(&self, rest: Duration) -> impl Future<Output = ()> + Send + use<> {
        let mut running = self.0.subscribe();
        async move {
            loop {
                let none = *running.borrow_and_update() == 0;
                tokio::select! {
                    // Whoever could ask is gone, with the connection.
                    changed = running.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(rest), if none => return,
                }
            }
        }
    }
}

/// A request that is being answered, until this is dropped.
#[derive(Debug)]
pub struct Running(Arc<watch::Sender<usize>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}
