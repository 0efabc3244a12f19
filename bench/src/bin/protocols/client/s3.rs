//! S3 over HTTP/1.1: presigned requests on one connection that stays open.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    client::conn::http1::{self, SendRequest},
    header::HOST,
};
use hyper_util::rt::TokioIo;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use tokio::{net::TcpStream, runtime::Runtime};

use crate::{
    client::Client,
    objects::{ROOT, path},
};

/// How long a signature holds; any request is answered before.
const VALID: Duration = Duration::from_secs(600);

/// Somebody with a key for the bucket [`ROOT`].
pub struct S3 {
    runtime: Runtime,
    connection: SendRequest<Full<Bytes>>,
    host: String,
    /// With the host, without a path.
    url: String,
    bucket: Bucket,
    credentials: Credentials,
}

impl S3 {
    /// Connects; `key` is id and secret.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn connect(server: SocketAddr, (id, secret): &(String, String)) -> Result<S3> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let connection = runtime.block_on(async {
            let stream = TcpStream::connect(server).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            anyhow::Ok(sender)
        })?;
        let url = format!("http://{server}");
        Ok(S3 {
            runtime,
            connection,
            host: server.to_string(),
            bucket: Bucket::new(url.parse()?, UrlStyle::Path, ROOT, "us-east-1")?,
            url,
            credentials: Credentials::new(id.as_str(), secret.as_str()),
        })
    }

    /// Sends what was signed as `url`, an address of this server.
    fn ask(&mut self, method: Method, url: &str, body: Bytes) -> Result<Bytes> {
        let target = url.strip_prefix(&self.url).unwrap_or(url);
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, self.host.as_str())
            .body(Full::new(body))?;
        let connection = &mut self.connection;
        let (status, body) = self.runtime.block_on(async {
            connection.ready().await?;
            let answer = connection.send_request(request).await?;
            let status = answer.status();
            anyhow::Ok((status, answer.into_body().collect().await?.to_bytes()))
        })?;
        ensure!(
            status == StatusCode::OK,
            "{}: {status}: {}",
            target.split('?').next().unwrap_or(target),
            String::from_utf8_lossy(&body)
        );
        Ok(body)
    }
}

impl Client for S3 {
    fn put(&mut self, number: u64, contents: Bytes) -> Result<()> {
        let (key, credentials) = (path(number), Some(&self.credentials));
        let url = self.bucket.put_object(credentials, &key).sign(VALID);
        self.ask(Method::PUT, url.as_str(), contents).map(drop)
    }

    fn get(&mut self, number: u64, _size: usize) -> Result<Bytes> {
        let (key, credentials) = (path(number), Some(&self.credentials));
        let url = self.bucket.get_object(credentials, &key).sign(VALID);
        self.ask(Method::GET, url.as_str(), Bytes::new())
    }
}
