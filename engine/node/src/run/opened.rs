//! The store of a node that starts. One that is away, as after the power came back to a whole rack,
//! is waited for; one that refuses is an error at once, for waiting would not help.

use std::time::Duration;

use store::{OpenOptions, Store};
use tracing::{info, warn};

use super::signals::Stop;
use crate::config::Config;

/// Pause before a store that is away is asked once more: doubled each time up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// The open store, or `None` when somebody asked the node to stop before it was there.
///
/// # Errors
/// What waiting does not mend: a wrong password, no such database, an older schema, a broken file.
pub(super) async fn opened(config: &Config, stop: &Stop) -> anyhow::Result<Option<Store>> {
    let (mut pause, longest) = PAUSES;
    let mut is_away = false;
    loop {
        let options = config.opening(OpenOptions::default());
        match Store::open_with(&config.store, options).await {
            Ok(store) => {
                if is_away {
                    info!("the store answers");
                }
                return Ok(Some(store));
            }
            Err(error) if error.is_transient() => {
                let pause_s = pause.as_secs();
                warn!(
                    "no check is made before the store is open, tried again in {pause_s} s: {error}"
                );
            }
            Err(error) => return Err(error.into()),
        }
        is_away = true;
        tokio::select! {
            biased;
            why = stop.asked() => {
                info!("{why}: stopped while the store was away");
                return Ok(None);
            }
            () = tokio::time::sleep(pause) => {}
        }
        pause = longest.min(pause * 2);
    }
}
