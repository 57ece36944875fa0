"""The server does for each of the three clients what Google's does."""

import pytest


def test_gcsfs_reads_what_it_and_others_wrote(server):
    import fsspec

    from genjax.places import bucket

    bucket.prepare()
    store = fsspec.filesystem("gcs")
    server.put("gcsfs/b/two", b"--==0==\r\n\r\nnot a fence\r\n")
    store.pipe_file("bucket/gcsfs/one", bytes(range(256)) * 4)
    with store.open("gs://bucket/gcsfs/large", "wb", block_size=2**18) as file:
        file.write(b"x" * (2**18 * 3 + 5))  # in parts
    assert store.cat_file("bucket/gcsfs/one", start=3, end=7) == b"\3\4\5\6"
    assert server.read("gcsfs/one") == bytes(range(256)) * 4
    assert store.cat_file("bucket/gcsfs/b/two") == server.read("gcsfs/b/two")
    assert server.read("gcsfs/large") == b"x" * (2**18 * 3 + 5)
    names = ["bucket/gcsfs/b", "bucket/gcsfs/large", "bucket/gcsfs/one"]
    assert sorted(store.ls("bucket/gcsfs", detail=False)) == names
    server.put("gcsfs/late", b"")  # by another machine, after the folder was listed
    assert store.exists("bucket/gcsfs/late")
    store.rm("bucket/gcsfs", recursive=True)
    assert server.names("gcsfs/") == []


def test_tensorstore_writes_over_the_version_that_it_saw_only(server):
    import tensorstore as ts

    spec = {"driver": "gcs", "bucket": "bucket", "path": "ts/"}
    store = ts.KvStore.open(spec).result()
    first = store.write("a", b"0123456789").result()
    assert server.read("ts/a") == b"0123456789"
    assert store["a"] == b"0123456789"
    second = store.write("a", b"new", if_equal=first.generation).result()
    assert store.write("a", b"lost", if_equal=first.generation).result() != second
    assert server.read("ts/a") == b"new"
    store["b/c"] = b"x"
    assert sorted(store.list().result()) == [b"a", b"b/c"]
    store.delete_range(ts.KvStore.KeyRange()).result()
    assert server.names("ts/") == []


def test_the_client_of_google_sees_versions_pages_and_copies(server):
    from google.api_core.exceptions import PreconditionFailed
    from google.cloud import storage

    bucket = storage.Client().bucket("bucket")
    blob = bucket.blob("google/a")
    content = b"\r\n--fence\r\n\r\n" + bytes(range(256))
    blob.upload_from_string(content, if_generation_match=0)
    with pytest.raises(PreconditionFailed):
        bucket.blob("google/a").upload_from_string(b"", if_generation_match=0)
    blob.upload_from_string(content, if_generation_match=blob.generation)
    bucket.blob("google/copy").rewrite(blob)
    assert bucket.blob("google/copy").download_as_bytes() == content
    names = {b.name for b in bucket.list_blobs(prefix="google/", page_size=1)}
    assert names == {"google/a", "google/copy"}
    listed = bucket.list_blobs(prefix="goo", delimiter="/")
    assert list(listed) == [] and listed.prefixes == {"google/"}
