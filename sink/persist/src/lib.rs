//! The sink core: drain, step, journal, apply, freshness.
