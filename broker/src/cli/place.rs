//! A store that a command fills.

use std::path::PathBuf;
use std::sync::Arc;

use crate::storage::Store;
use crate::storage::address::{self, EtcdAccess, StoreAddress};
use crate::storage::schema::{self, Found};

/// Opens a store and fills it. What is refused while the store is still empty leaves no folder behind that was not there.
///
/// # Errors
/// When it cannot be opened; what `fill` says.
pub(super) async fn fill<T>(
    address: &StoreAddress,
    access: &EtcdAccess,
    fill: impl AsyncFnOnce(&Arc<dyn Store>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let made = missing_folders(address);
    let store = address::open(address, access).await?;
    let filled = fill(&store).await;
    if filled.is_err() && matches!(schema::look(&store).await, Ok(Found::Fresh)) {
        // Closed first: the store writes until then.
        drop(store);
        let mut made = made.into_iter();
        // What cannot be taken away does no harm.
        drop(made.next().map(std::fs::remove_dir_all));
        made.for_each(|folder| drop(std::fs::remove_dir(folder)));
    }
    filled
}

/// The folder of an embedded store and those that it is in, as far as there are none: the store makes them.
fn missing_folders(address: &StoreAddress) -> Vec<PathBuf> {
    let StoreAddress::Sled(folder) = address else { return Vec::new() };
    folder.ancestors().take_while(|folder| !folder.exists()).map(PathBuf::from).collect()
}
