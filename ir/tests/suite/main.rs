//! What the room promises, tested from outside.

mod bind;
mod damage;
mod depend;
mod dim;
mod dot;
mod guilty;
mod load;
mod round_trip;
mod verify;
