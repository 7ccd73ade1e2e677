//! The state machine as a whole: its rules one by one, and random histories against a model.

mod consuming;
mod cutting;
mod fifo;
mod harness;
mod histories;
mod installing;
mod sending;
mod stores;
