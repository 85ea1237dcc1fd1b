//! Pinned probe cores: wheel, schedule, admission, reactors.
