//! Pure incident machine.
