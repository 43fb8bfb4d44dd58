locals {
  lake_root = var.lake_prefix == "" ? "" : "${var.lake_prefix}/"
}

resource "google_storage_bucket" "lake" {
  # checkov:skip=CKV_GCP_62:Access logs are Cloud Audit Logs, switched on for a project; a log bucket would hold object names twice.
  # checkov:skip=CKV_GCP_78:Objects are named by their content and written once; versions would double what is overwritten by the same bytes. Soft delete restores.
  name                        = "${var.project}-${local.name}"
  location                    = var.region
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.deletion_protection

  versioning {
    enabled = false
  }

  soft_delete_policy {
    retention_duration_seconds = var.soft_delete_days * 86400
  }

  # A run that publishes removes its batches; this is for those of runs that never did.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = var.batch_days
      matches_prefix = ["${local.lake_root}batches/"]
    }
  }

  # What an upload that broke off left behind.
  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 7
    }
  }

  depends_on = [google_project_service.api]
}

# Ingest publishes: it swaps CURRENT, and gc removes what no manifest lists.
resource "google_storage_bucket_iam_member" "ingest" {
  bucket = google_storage_bucket.lake.name
  role   = "roles/storage.objectUser"
  member = google_service_account.ingest.member
}

# A batch reads all of the lake and writes where originals, rejected files, drawings, exports and parts lie: it can't touch
# a snapshot.
resource "google_storage_bucket_iam_member" "batch_reads" {
  bucket = google_storage_bucket.lake.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.batch.member
}

resource "google_storage_bucket_iam_member" "batch_writes" {
  for_each = toset(["originals", "rejected", "derived", "batches", "exports", "work"])

  bucket = google_storage_bucket.lake.name
  role   = "roles/storage.objectUser"
  member = google_service_account.batch.member

  condition {
    title      = "only ${each.key}"
    expression = "resource.name.startsWith(\"projects/_/buckets/${google_storage_bucket.lake.name}/objects/${local.lake_root}${each.key}/\")"
  }
}
