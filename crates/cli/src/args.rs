//! The command line: what can be asked for, and nothing about how it is done.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use graphdriver::{DriverOption, IdMap, LayerId};

use crate::id_maps;
use crate::import::ImageRef;

/// Keeps container file systems as layers: create, fill from a tar, mount, diff, remove.
///
/// Exit status: 0 done, 1 failed, 2 wrong usage, 3 not supported here.
#[derive(Debug, Parser)]
#[command(name = "graphdriver", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Directory of the store [default: /var/lib/graphdriver; of an ordinary user: graphdriver in `$XDG_DATA_HOME`]
    #[arg(long, global = true, value_name = "DIR", env = "GRAPHDRIVER_ROOT", hide_env_values = true)]
    pub(crate) root: Option<PathBuf>,

    /// Directory for what need not outlive a boot [default: /run/graphdriver; or graphdriver in `$XDG_RUNTIME_DIR`]
    #[arg(long, global = true, value_name = "DIR", env = "GRAPHDRIVER_RUN_ROOT", hide_env_values = true)]
    pub(crate) run_root: Option<PathBuf>,

    /// Second directory, in which layers to be filled (images) are made; the first keeps those to be written to
    #[arg(
        long = "imagestore",
        global = true,
        value_name = "DIR",
        env = "GRAPHDRIVER_IMAGESTORE",
        hide_env_values = true
    )]
    pub(crate) image_store: Option<PathBuf>,

    /// Driver [default: the one whose layers are in the store, else the best that works here]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) driver: Option<String>,

    /// Driver option; may be given several times, before the command
    #[arg(short = 'o', long = "storage-opt", value_name = "KEY=VALUE")]
    pub(crate) storage_options: Vec<DriverOption>,

    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// No progress, no warnings
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    /// Say more on stderr; twice for debugging, three times for tracing
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the driver, what it can do here, and the options in force
    Info,
    /// List the drivers of this program, and whether each is usable here
    Drivers,
    /// Make a new layer
    Create(Create),
    /// Make a layer from a tar
    Apply(Apply),
    /// Write a layer's changes as a tar
    Diff(Diff),
    /// List what a layer changed: A added, C changed, D deleted
    Changes(Compare),
    /// Print the size of the files that a layer added or changed, in bytes
    Diffsize(Compare),
    /// Mount a layer and print where; each mount is undone by one unmount
    Mount(Mount),
    /// Give one mount of a layer back
    Unmount(OneLayer),
    /// Remove layers, children before parents
    Remove(Remove),
    /// List the layers
    List,
    /// Tell by the exit status whether a layer exists
    Exists(OneLayer),
    /// Show where a layer is kept
    Metadata(OneLayer),
    /// Show what a layer itself occupies
    Usage(OneLayer),
    /// Unmount what nobody uses and delete temporary files of processes that are gone
    Cleanup,
    /// Let equal files of layers share their blocks, where the file system can; print the bytes gained
    Dedup(Dedup),
    /// Look for problems in the store
    Check(Check),
    /// Make layers from an image and print the id of the top one
    Import(Import),
    /// Move all layers from one driver to another, keeping their ids
    Migrate(Migrate),
    /// Run a command on a layer, in a read-write layer of its own
    Run(Run),
    /// Run a command in the user namespace that this program uses for ordinary users
    Unshare(Unshare),
    /// Be a graph driver plugin of Docker
    #[cfg(feature = "plugin")]
    #[command(subcommand)]
    Plugin(Plugin),
    /// First process of a container, for `run` only
    #[command(hide = true, name = crate::run::INIT)]
    ContainerInit(Container),
    /// Sets up a container's file system and becomes its command, for `run` only
    #[command(hide = true, name = crate::run::COMMAND)]
    ContainerMain(Container),
    /// Gives id maps to the process that started this one, for ordinary users only
    #[command(hide = true, name = crate::user_namespace::MAP_IDS)]
    MapIds,
}

#[derive(Args, Debug)]
pub(crate) struct OneLayer {
    pub(crate) id: LayerId,
}

/// Ids of users and groups in a container, and what they are on this host.
#[derive(Args, Debug)]
pub(crate) struct Ids {
    /// Range of user ids in the container, on the host, and how many; may be given several times
    #[arg(long = "uidmap", value_name = "CONTAINER:HOST:SIZE", value_parser = id_maps::parse)]
    pub(crate) uids: Vec<IdMap>,
    /// Range of group ids [default: as of users]
    #[arg(long = "gidmap", value_name = "CONTAINER:HOST:SIZE", value_parser = id_maps::parse)]
    pub(crate) gids: Vec<IdMap>,
}

#[derive(Args, Debug)]
pub(crate) struct Create {
    pub(crate) id: LayerId,
    #[command(flatten)]
    pub(crate) ids: Ids,
    /// Layer below
    #[arg(long, value_name = "ID")]
    pub(crate) parent: Option<LayerId>,
    /// A layer to be mounted and written to, rather than one to be filled from a tar
    #[arg(long)]
    pub(crate) rw: bool,
    /// Start with the contents of this layer
    #[arg(long, value_name = "ID")]
    pub(crate) template: Option<LayerId>,
    /// Limit the space of a read-write layer, as 500M or 10GiB (1024 based)
    #[arg(long, value_name = "BYTES", value_parser = graphdriver::parse_size)]
    pub(crate) size: Option<u64>,
    /// Limit the files of a read-write layer
    #[arg(long, value_name = "N")]
    pub(crate) inodes: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct Apply {
    pub(crate) id: LayerId,
    /// The tar: plain, gzip or zstd [default: standard input, also as -]
    pub(crate) tar: Option<PathBuf>,
    /// Layer below
    #[arg(long, value_name = "ID")]
    pub(crate) parent: Option<LayerId>,
    /// Keep no record by which diff gives back this very tar
    #[arg(long)]
    pub(crate) no_record: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Compare {
    pub(crate) id: LayerId,
    /// Layer to compare with [default: the layer's parent]
    #[arg(long, value_name = "ID")]
    pub(crate) parent: Option<LayerId>,
}

#[derive(Args, Debug)]
pub(crate) struct Diff {
    #[command(flatten)]
    pub(crate) compare: Compare,
    /// Where the tar goes [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Mount {
    pub(crate) id: LayerId,
    #[command(flatten)]
    pub(crate) ids: Ids,
    /// Nothing can be written
    #[arg(long)]
    pub(crate) ro: bool,
    /// Never flush the upper layer to disk
    #[arg(long)]
    pub(crate) volatile: bool,
    /// Further mount option; may be given several times
    #[arg(long = "mount-opt", value_name = "O")]
    pub(crate) options: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Remove {
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<LayerId>,
}

#[derive(Args, Debug)]
pub(crate) struct Dedup {
    /// Layers to look at [default: all of the store]
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<LayerId>,
    /// By what files are found that may be equal, besides their size
    #[arg(long, value_enum, default_value = "crc")]
    pub(crate) hash: Hash,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Hash {
    /// CRC-64 of the contents
    Crc,
    /// Nothing: each file is compared with all different ones of its size
    Size,
    /// SHA-256 of the contents
    Sha256,
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Also do what `cleanup` does before looking
    #[arg(long)]
    pub(crate) repair: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Import {
    /// Where the image is.
    #[arg(help = "oci:DIR[:REF], oci-archive:FILE[:REF] or docker-archive:FILE[:REF]", value_parser = OsStringValueParser::new().try_map(|text| ImageRef::parse(&text)))]
    pub(crate) image: ImageRef,
}

#[derive(Args, Debug)]
pub(crate) struct Migrate {
    /// Driver whose layers are moved
    #[arg(long, value_name = "DRIVER")]
    pub(crate) from: String,
    /// Driver that gets them, in the same root
    #[arg(long, value_name = "DRIVER")]
    pub(crate) to: String,
    /// Say what would be moved, and touch nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Remove the layers from where they were, once every one of them is verified
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) remove_source: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Run {
    pub(crate) id: LayerId,
    /// Print what the command changed, once it is done
    #[arg(long)]
    pub(crate) changes: bool,
    /// Keep the read-write layer, under this id, once the command has ended by itself
    #[arg(long, value_name = "ID")]
    pub(crate) keep: Option<LayerId>,
    /// The command and its arguments [default: /bin/sh]
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct Unshare {
    /// The command and its arguments [default: $SHELL]
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[cfg(feature = "plugin")]
#[derive(Debug, Subcommand)]
pub(crate) enum Plugin {
    /// Let Docker keep its layers with the driver; ends on SIGTERM, SIGINT and SIGHUP
    Serve(Serve),
}

#[cfg(feature = "plugin")]
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// The plugin's name, which Docker takes as that of a storage driver
    #[arg(long, value_name = "NAME", value_parser = plugin_name)]
    pub(crate) name: String,
    /// Listen on this unix socket [default: /run/docker/plugins/NAME.sock; the sockets that systemd has made, if any]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Listen on this port, and tell Docker by /etc/docker/plugins/NAME.spec. Every user who reaches it can do all that root can
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) tcp: Option<std::net::SocketAddr>,
    /// Let --tcp be an address that other machines reach
    #[arg(long, requires = "tcp")]
    pub(crate) remote: bool,
    /// Group, by name or number, whose members may call, besides root
    #[arg(long, value_name = "GROUP")]
    pub(crate) gid: Option<String>,
    /// Unmount all layers at the end, rather than leave them to the next start
    #[arg(long)]
    pub(crate) unmount: bool,
}

/// A name that is one component of a path.
#[cfg(feature = "plugin")]
fn plugin_name(name: &str) -> Result<String, String> {
    let usual = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(usual) {
        return Err("letters, digits, '.', '_' and '-', without a dot at the beginning".to_owned());
    }
    Ok(name.to_owned())
}

/// What `run` tells the processes that it starts.
#[derive(Args, Debug)]
pub(crate) struct Container {
    pub(crate) root: PathBuf,
    /// Make the command's process group the terminal's foreground one
    #[arg(long)]
    pub(crate) foreground: bool,
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn both_meanings_of_o() {
        let cli = Cli::parse_from([
            "graphdriver",
            "-o",
            "overlay.sync=none",
            "diff",
            "l1",
            "-o",
            "out.tar",
            "--json",
        ]);
        assert_eq!(cli.global.storage_options, ["overlay.sync=none".parse().unwrap()]);
        assert!(cli.global.json);
        let Command::Diff(diff) = cli.command else { panic!("{:?}", cli.command) };
        assert_eq!(diff.output, Some("out.tar".into()));
    }

    #[test]
    fn wrong_usage() {
        for line in [
            "",
            "create",
            "create a/b",
            "create ''",
            "remove",
            "import nothing:here",
            "run l1 sh",
            "frobnicate",
            "check --fix",
            "dedup --hash md5",
            "plugin",
            "plugin serve",
            "plugin serve --name a/b",
            "plugin serve --name a --remote",
            "plugin serve --name a --tcp nowhere",
            "migrate --from vfs",
            "migrate --from vfs --to overlay --dry-run --remove-source",
        ] {
            let words = line.split(' ').filter(|word| !word.is_empty()).map(|word| word.trim_matches('\''));
            assert!(Cli::try_parse_from(std::iter::once("graphdriver").chain(words)).is_err(), "{line:?}");
        }
    }
}
