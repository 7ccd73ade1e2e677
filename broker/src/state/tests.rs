//! The state machine as a whole: its rules one by one, and random histories against a model.

mod consuming;
mod cutting;
mod fifo;
mod golden;
mod harness;
mod histories;
mod installing;
mod levels;
mod sending;
mod stores;
