//! The requests of `s3s`, handed on to the operations. What is not here is
//! answered with `NotImplemented`.

use std::time::Instant;

use s3s::{S3, S3Request, S3Response, S3Result, dto};

use super::Gateway;
use crate::stats::operations;

macro_rules! hand_on {
    ($($operation:ident $name:ident $text:literal: $input:ident -> $output:ident;)*) => {
        operations! {
            /// A kind of request.
            pub enum Op of "s3" { $($name $text,)* }
        }

        #[async_trait::async_trait]
        impl S3 for Gateway {
            $(
                async fn $operation(
                    &self,
                    request: S3Request<dto::$input>,
                ) -> S3Result<S3Response<dto::$output>> {
                    let began = Instant::now();
                    let answer = Gateway::$operation(self, request).await;
                    self.stats.record(Op::$name, began.elapsed(), false, 0);
                    answer
                }
            )*
        }
    };
}

hand_on! {
    create_bucket CreateBucket "create_bucket": CreateBucketInput -> CreateBucketOutput;
    delete_bucket DeleteBucket "delete_bucket": DeleteBucketInput -> DeleteBucketOutput;
    head_bucket HeadBucket "head_bucket": HeadBucketInput -> HeadBucketOutput;
    list_buckets ListBuckets "list_buckets": ListBucketsInput -> ListBucketsOutput;
    get_bucket_location GetBucketLocation "get_bucket_location": GetBucketLocationInput -> GetBucketLocationOutput;
    get_bucket_versioning GetBucketVersioning "get_bucket_versioning": GetBucketVersioningInput -> GetBucketVersioningOutput;
    get_bucket_acl GetBucketAcl "get_bucket_acl": GetBucketAclInput -> GetBucketAclOutput;
    get_object_acl GetObjectAcl "get_object_acl": GetObjectAclInput -> GetObjectAclOutput;
    put_object PutObject "put_object": PutObjectInput -> PutObjectOutput;
    get_object GetObject "get_object": GetObjectInput -> GetObjectOutput;
    head_object HeadObject "head_object": HeadObjectInput -> HeadObjectOutput;
    get_object_attributes GetObjectAttributes "get_object_attributes": GetObjectAttributesInput -> GetObjectAttributesOutput;
    delete_object DeleteObject "delete_object": DeleteObjectInput -> DeleteObjectOutput;
    delete_objects DeleteObjects "delete_objects": DeleteObjectsInput -> DeleteObjectsOutput;
    copy_object CopyObject "copy_object": CopyObjectInput -> CopyObjectOutput;
    get_object_tagging GetObjectTagging "get_object_tagging": GetObjectTaggingInput -> GetObjectTaggingOutput;
    put_object_tagging PutObjectTagging "put_object_tagging": PutObjectTaggingInput -> PutObjectTaggingOutput;
    delete_object_tagging DeleteObjectTagging "delete_object_tagging": DeleteObjectTaggingInput -> DeleteObjectTaggingOutput;
    list_objects ListObjects "list_objects": ListObjectsInput -> ListObjectsOutput;
    list_objects_v2 ListObjectsV2 "list_objects_v2": ListObjectsV2Input -> ListObjectsV2Output;
    create_multipart_upload CreateMultipartUpload "create_multipart_upload": CreateMultipartUploadInput -> CreateMultipartUploadOutput;
    upload_part UploadPart "upload_part": UploadPartInput -> UploadPartOutput;
    upload_part_copy UploadPartCopy "upload_part_copy": UploadPartCopyInput -> UploadPartCopyOutput;
    complete_multipart_upload CompleteMultipartUpload "complete_multipart_upload": CompleteMultipartUploadInput -> CompleteMultipartUploadOutput;
    abort_multipart_upload AbortMultipartUpload "abort_multipart_upload": AbortMultipartUploadInput -> AbortMultipartUploadOutput;
    list_parts ListParts "list_parts": ListPartsInput -> ListPartsOutput;
    list_multipart_uploads ListMultipartUploads "list_multipart_uploads": ListMultipartUploadsInput -> ListMultipartUploadsOutput;
}
