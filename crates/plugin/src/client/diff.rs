//! Diffs, changes and sizes by the plugin.

use std::io::Read;

use graphdriver_core::{
    Applied, Change, Error, ErrorKind, IdMaps, LayerApplyOptions, LayerDiff, LayerId, NativeDiff, Result,
};

use super::caller::Subject;
use super::driver::PluginDriver;
use super::upload;
use crate::wire::{ChangesReply, PairRequest, SizeReply};

/// What the protocol has no words for, such as maps of ids, is left to the naive way: the layers are mounted by the plugin, and read or filled here.
impl NativeDiff for PluginDriver {
    fn diff(&self, id: &LayerId, base: Option<&LayerId>, id_maps: &IdMaps) -> Result<Option<LayerDiff>> {
        if !id_maps.is_identity() {
            return Ok(None);
        }
        let subject = Subject { method: "GraphDriver.Diff", id: Some(id) };
        let body = self.caller.open(subject, &pair(id, base));
        let body = body.map_err(|error| self.or_unknown(error, id))?;
        Ok(Some(LayerDiff::new(body)))
    }

    fn changes(&self, id: &LayerId, base: Option<&LayerId>) -> Result<Option<Vec<Change>>> {
        let method = "GraphDriver.Changes";
        let reply: Result<ChangesReply> = self.caller.call(method, Some(id), &pair(id, base));
        let reply = reply.map_err(|error| self.or_unknown(error, id))?;
        // A helper library for plugins puts as many empty ones before the real ones.
        let told = reply.changes.iter().filter(|change| !change.path.is_empty());
        let changes = told.map(|change| {
            change.to_change().ok_or_else(|| {
                let subject = Subject { method, id: Some(id) };
                self.caller.error(subject, ErrorKind::Io).detail(format!("{change:?} is no change"))
            })
        });
        let mut changes = changes.collect::<Result<Vec<Change>, Error>>()?;
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Some(changes))
    }

    fn diff_size(&self, id: &LayerId, base: Option<&LayerId>) -> Result<Option<u64>> {
        let reply: Result<SizeReply> = self.caller.call("GraphDriver.DiffSize", Some(id), &pair(id, base));
        let size = reply.map_err(|error| self.or_unknown(error, id))?.size;
        Ok(u64::try_from(size).ok())
    }

    fn apply(
        &self,
        id: &LayerId,
        tar: &mut dyn Read,
        options: &LayerApplyOptions,
    ) -> Result<Option<Applied>> {
        if !options.id_maps.is_identity() || options.ignore_chown_errors || options.force_mask.is_some() {
            return Ok(None);
        }
        let applied = upload::apply(&self.caller, id, tar, options.digest);
        let (reply, archive) = applied.map_err(|error| self.or_unknown(error, id))?;
        let bytes = u64::try_from(reply.size).unwrap_or_default();
        Ok(Some(Applied { bytes, entries: reply.entries.unwrap_or_default(), archive }))
    }
}

fn pair(id: &LayerId, base: Option<&LayerId>) -> PairRequest {
    PairRequest { id: id.to_string(), parent: base.map(ToString::to_string).unwrap_or_default() }
}
