//! Listing uploads and parts.

use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        ChecksumAlgorithm, CommonPrefix, EncodingType, ListMultipartUploadsInput,
        ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput, MultipartUpload, Part,
    },
};

use crate::s3::{Gateway, buckets::owner, conditions::timestamp, failure::failed, list::encoded};

const PAGE_MAX: i32 = 1000;

impl Gateway {
    pub(in crate::s3) async fn list_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        let input = request.input;
        let found = self
            .upload(&input.bucket, &input.key, &input.upload_id)
            .await?;
        let after = input.part_number_marker.unwrap_or(0);
        let most = input.max_parts.unwrap_or(PAGE_MAX).clamp(0, PAGE_MAX);
        let mut numbers = self.part_numbers(found.directory.ino).await?;
        numbers.retain(|number| *number > after);
        let more = numbers.len() > most as usize;
        numbers.truncate(most as usize);
        let mut parts = Vec::with_capacity(numbers.len());
        for number in &numbers {
            let Some(part) = self.part(found.directory.ino, *number).await? else {
                continue;
            };
            let sums = part.sums.checksums();
            parts.push(Part {
                checksum_crc32: sums.checksum_crc32,
                checksum_crc32c: sums.checksum_crc32c,
                checksum_crc64nvme: sums.checksum_crc64nvme,
                checksum_sha1: sums.checksum_sha1,
                checksum_sha256: sums.checksum_sha256,
                e_tag: Some(part.sums.etag()),
                last_modified: Some(timestamp(part.attr.mtime)),
                part_number: Some(*number),
                size: Some(part.attr.size.cast_signed()),
            });
        }
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            checksum_algorithm: found.upload.algorithm.map(ChecksumAlgorithm::from),
            is_truncated: Some(more),
            max_parts: Some(most),
            next_part_number_marker: numbers.last().copied(),
            part_number_marker: Some(after),
            parts: Some(parts),
            owner: Some(owner()),
            ..ListPartsOutput::default()
        }))
    }

    /// The numbers of the parts that are there, in order.
    async fn part_numbers(&self, directory: kiseki_core::ids::Ino) -> S3Result<Vec<i32>> {
        let mut numbers = Vec::new();
        let mut cookie = 0;
        loop {
            let page = self.volume.readdir(directory, cookie, 1024).await;
            let page = page.map_err(failed)?;
            let Some(last) = page.last() else { break };
            cookie = last.cookie;
            let names = page
                .iter()
                .filter_map(|entry| str::from_utf8(&entry.name).ok());
            numbers.extend(names.filter_map(|name| name.parse::<i32>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub(in crate::s3) async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        self.bucket(&input.bucket).await?;
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let delimiter = input.delimiter.as_deref().filter(|text| !text.is_empty());
        let encoding = input.encoding_type.as_ref();
        let encode = encoding.is_some_and(|encoding| encoding.as_str() == EncodingType::URL);
        let after = (
            input.key_marker.as_deref().unwrap_or_default(),
            input.upload_id_marker.as_deref(),
        );
        let most = input.max_uploads.unwrap_or(PAGE_MAX).clamp(0, PAGE_MAX);

        let mut found = self.all_uploads().await.map_err(failed)?;
        found.retain(|(id, found)| {
            let key = found.upload.key.as_str();
            let behind = match after.1 {
                Some(marker) => (key, id.as_str()) > (after.0, marker),
                None => key > after.0,
            };
            found.upload.bucket == input.bucket && key.starts_with(prefix) && behind
        });
        found.sort_unstable_by(|a, b| (&a.1.upload.key, &a.0).cmp(&(&b.1.upload.key, &b.0)));

        let (mut uploads, mut prefixes) = (Vec::new(), Vec::<String>::new());
        let (mut next, mut more) = (None, false);
        for (id, found) in found {
            let key = found.upload.key;
            let rolled = delimiter.and_then(|delimiter| {
                let end = key[prefix.len()..].find(delimiter)? + delimiter.len();
                Some(key[..prefix.len() + end].to_owned())
            });
            if rolled.is_some() && rolled.as_ref() == prefixes.last() {
                next = Some((key, id));
                continue;
            }
            if uploads.len() + prefixes.len() >= most as usize {
                more = true;
                break;
            }
            next = Some((key.clone(), id.clone()));
            match rolled {
                Some(rolled) => prefixes.push(rolled),
                None => uploads.push(MultipartUpload {
                    checksum_algorithm: found.upload.algorithm.map(ChecksumAlgorithm::from),
                    initiated: Some(timestamp(found.directory.btime)),
                    key: Some(encoded(&key, encode)),
                    owner: Some(owner()),
                    upload_id: Some(id),
                    ..MultipartUpload::default()
                }),
            }
        }
        let (next_key, next_id) = next.filter(|_| more).unzip();
        let prefixes = prefixes.iter().map(|prefix| CommonPrefix {
            prefix: Some(encoded(prefix, encode)),
        });
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            common_prefixes: Some(prefixes.collect()),
            delimiter: input.delimiter,
            encoding_type: input.encoding_type,
            is_truncated: Some(more),
            key_marker: input.key_marker,
            max_uploads: Some(most),
            next_key_marker: next_key,
            next_upload_id_marker: next_id,
            prefix: input.prefix,
            upload_id_marker: input.upload_id_marker,
            uploads: Some(uploads),
            request_charged: None,
        }))
    }
}
