//! Maintenance windows: that one is told once. It must not know where windows come from.

use model::target::Maintenance;

/// Whether this window has swallowed something already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swallowing {
    /// The window, by its end.
    told: Option<u64>,
}

impl Swallowing {
    /// Something is swallowed by `window`; says whether it is the first time.
    pub(crate) fn swallow(&mut self, window: Maintenance) -> bool {
        self.told.replace(window.end_ms) != Some(window.end_ms)
    }

    /// No window is active any more.
    pub(crate) fn over(&mut self) {
        self.told = None;
    }

    pub(crate) fn is_over(self) -> bool {
        self.told.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Maintenance = Maintenance {
        start_ms: 100,
        end_ms: 200,
    };

    #[test]
    fn a_window_is_told_once_and_another_again() {
        let mut swallowing = Swallowing::default();
        assert!(swallowing.swallow(WINDOW));
        assert!(!swallowing.swallow(WINDOW));
        let longer = Maintenance {
            end_ms: 300,
            ..WINDOW
        };
        assert!(swallowing.swallow(longer));
        assert!(!swallowing.is_over());
        swallowing.over();
        assert!(swallowing.is_over() && swallowing.swallow(longer));
    }
}
