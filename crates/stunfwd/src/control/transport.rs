//! What the control socket is made of: a Unix socket that only its owner may open.
//!
//! Elsewhere there is none yet, and every function says so; a named pipe would be one more `platform`.

pub(super) use platform::{Listener, PATH_BYTES_MAX, Stream, connect, is_answered};

/// Length of the name under which a socket is born, `.1234abcd/s`.
pub(super) const NURSERY_BYTES: usize = 11;

#[cfg(unix)]
mod platform {
    use std::{
        fs, io,
        os::unix::{
            fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
            net::{UnixListener as BlockingListener, UnixStream as BlockingStream},
        },
        path::{Path, PathBuf},
    };

    use tokio::net::UnixListener;

    /// `sockaddr_un` holds 108 bytes on Linux and 104 on the BSDs, the final zero included.
    pub(in crate::control) const PATH_BYTES_MAX: usize =
        if cfg!(any(target_os = "linux", target_os = "android")) {
            107
        } else {
            103
        };

    pub(in crate::control) type Stream = tokio::net::UnixStream;

    /// A listening socket; its file goes with it.
    #[derive(Debug)]
    pub(in crate::control) struct Listener {
        listener: UnixListener,
        path: PathBuf,
        /// Device and inode, so that nobody else's file is removed.
        file: (u64, u64),
    }

    impl Listener {
        /// Binds a socket and puts it in the place of `path`, whatever socket was there.
        ///
        /// It is born in a directory that only we may enter and moved once it is ours alone: at no time
        /// could another user have opened it.
        pub(in crate::control) fn bind(path: &Path) -> io::Result<Self> {
            let nursery = path.with_file_name(format!(".{:08x}", rand::random::<u32>()));
            fs::DirBuilder::new().mode(0o700).create(&nursery)?;
            let newborn = nursery.join("s");
            let bound = bind_private(&newborn).and_then(|listener| {
                let metadata = fs::metadata(&newborn)?;
                fs::rename(&newborn, path)?;
                Ok((listener, (metadata.dev(), metadata.ino())))
            });
            // Neither is there any more unless something above failed.
            let _ = fs::remove_file(&newborn);
            let _ = fs::remove_dir(&nursery);
            let (listener, file) = bound?;
            Ok(Self {
                listener,
                path: path.to_owned(),
                file,
            })
        }

        pub(in crate::control) async fn accept(&self) -> io::Result<Stream> {
            self.listener.accept().await.map(|(stream, _)| stream)
        }
    }

    impl Drop for Listener {
        fn drop(&mut self) {
            let ours = fs::metadata(&self.path)
                .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.file);
            if ours {
                // What remains would be found stale and replaced.
                let _ = fs::remove_file(&self.path);
            }
        }
    }

    fn bind_private(path: &Path) -> io::Result<UnixListener> {
        let listener = BlockingListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    }

    /// Says whether a program answers at `path`; an error when there is something that is no socket.
    pub(in crate::control) fn is_answered(path: &Path) -> io::Result<bool> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
            Ok(metadata) if !metadata.file_type().is_socket() => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Ok(_) => {}
        }
        match BlockingStream::connect(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(in crate::control) async fn connect(path: &Path) -> io::Result<Stream> {
        Stream::connect(path).await
    }
}

#[cfg(not(unix))]
mod platform {
    use std::{io, path::Path};

    pub(in crate::control) const PATH_BYTES_MAX: usize = usize::MAX;

    pub(in crate::control) type Stream = tokio::io::DuplexStream;

    #[derive(Debug)]
    pub(in crate::control) struct Listener;

    impl Listener {
        pub(in crate::control) fn bind(_path: &Path) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        #[expect(clippy::unused_async, reason = "on Unix it waits")]
        pub(in crate::control) async fn accept(&self) -> io::Result<Stream> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    pub(in crate::control) fn is_answered(_path: &Path) -> io::Result<bool> {
        Ok(false)
    }

    #[expect(clippy::unused_async, reason = "on Unix it waits")]
    pub(in crate::control) async fn connect(_path: &Path) -> io::Result<Stream> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
