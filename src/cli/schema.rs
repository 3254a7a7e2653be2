use imgforge::config::Config;

use super::session::{Failure, print_json};

pub(crate) fn run() -> Result<(), Failure> {
    print_json(&Config::schema())
}
