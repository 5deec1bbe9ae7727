//! Images in, layers out: `import`.

mod blobs;
mod docker;
mod image;
mod interrupt;
mod layers;
mod oci;
mod progress;
mod reference;
mod tar_index;

use graphdriver::Error;

use blobs::Blobs;

pub(crate) use image::Image;
pub(crate) use interrupt::Interrupt;
pub(crate) use layers::import;
pub(crate) use progress::Progress;
pub(crate) use reference::{ImageRef, Transport};

/// Opens an image and reads what it says about its layers, every digest checked.
///
/// # Errors
/// `InvalidArgument` when there are several images and none is named, or not that one; `InvalidArchive` for a malformed image; `NotSupported` for what is no image of a
/// file system, or of other platforms only; `Io`.
pub(crate) fn open(image: &ImageRef) -> Result<Image, Error> {
    let name = image.name.as_deref();
    match image.transport {
        Transport::OciDirectory => oci::open(Blobs::Directory(image.path.clone()), name),
        Transport::OciArchive => oci::open(Blobs::archive(&image.path)?, name),
        Transport::DockerArchive => docker::open(Blobs::archive(&image.path)?, name),
    }
}
