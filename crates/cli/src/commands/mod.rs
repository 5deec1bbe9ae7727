//! What each command does. Formatting only: the work is the library's.

mod check;
mod contents;
mod images;
mod layers;
mod migrate;
mod mounts;
#[cfg(feature = "plugin")]
mod plugin;
mod remove_order;
mod stores;

use crate::args::{Command, Global};
use crate::failure::Result;
use crate::store::Store;
use crate::user_namespace::{self, Privilege};

/// What all commands work with.
pub(crate) struct Session {
    store: Store,
    privilege: Privilege,
    json: bool,
    quiet: bool,
}

impl Session {
    /// Finds the store, and gets the privilege that work on layers needs.
    ///
    /// # Errors
    /// As [`Store::new`].
    fn new(global: &Global) -> Result<Self> {
        // In this order: the defaults depend on who we are outside of the namespace.
        let store = Store::new(global)?;
        let privilege = user_namespace::enter(&store.options().run_root);
        Ok(Self { store, privilege, json: global.json, quiet: global.quiet })
    }
}

/// Carries out `command` and returns the exit status.
///
/// # Errors
/// As the library's operation of that name.
pub(crate) fn run(command: &Command, global: &Global) -> Result<u8> {
    let session = Session::new(global)?;
    match command {
        Command::Info => stores::info(&session)?,
        Command::Drivers => stores::drivers(&session)?,
        Command::Cleanup => stores::cleanup(&session)?,
        Command::Check(args) => return check::check(&session, args),
        Command::Create(args) => layers::create(&session, args)?,
        Command::Dedup(args) => stores::dedup(&session, args)?,
        Command::Remove(args) => layers::remove(&session, args)?,
        Command::List => layers::list(&session)?,
        Command::Exists(args) => return layers::exists(&session, &args.id),
        Command::Metadata(args) => layers::metadata(&session, &args.id)?,
        Command::Usage(args) => layers::usage(&session, &args.id)?,
        Command::Apply(args) => contents::apply(&session, args)?,
        Command::Diff(args) => contents::diff(&session, args)?,
        Command::Changes(args) => contents::changes(&session, args)?,
        Command::Diffsize(args) => contents::diffsize(&session, args)?,
        Command::Mount(args) => mounts::mount(&session, args)?,
        Command::Unmount(args) => mounts::unmount(&session, &args.id)?,
        Command::Import(args) => images::import(&session, args)?,
        Command::Migrate(args) => return migrate::migrate(&session, args),
        Command::Run(args) => return images::run(&session, args),
        Command::Unshare(args) => match mounts::unshare(&session, args)? {},
        #[cfg(feature = "plugin")]
        Command::Plugin(args) => plugin::run(&session, args)?,
        // Parts of other commands, which `main` takes.
        Command::ContainerInit(_) | Command::ContainerMain(_) | Command::MapIds => {}
    }
    Ok(0)
}
