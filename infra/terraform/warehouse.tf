locals {
  datasets = {
    (var.staging_dataset)   = "Loads of Lookbook, before they are published."
    (var.warehouse_dataset) = "Published snapshots of Lookbook, for readers."
  }
}

resource "google_bigquery_dataset" "dataset" {
  # checkov:skip=CKV_GCP_81:Google's own keys encrypt it; a key of yours is a choice with a price, made by default_encryption_configuration.
  for_each = local.datasets

  dataset_id                 = each.key
  description                = each.value
  location                   = var.region
  delete_contents_on_destroy = !var.deletion_protection

  depends_on = [google_project_service.api]
}

# Access, not members of IAM: setting those would take away what lets views read staging.
resource "google_bigquery_dataset_access" "ingest" {
  for_each = local.datasets

  dataset_id    = google_bigquery_dataset.dataset[each.key].dataset_id
  role          = "WRITER"
  user_by_email = google_service_account.ingest.email
}

# To query, readers need BigQuery Job User too: in the project that pays, which is for its owner to give.
resource "google_bigquery_dataset_access" "reader" {
  for_each = var.reader_groups

  dataset_id     = google_bigquery_dataset.dataset[var.warehouse_dataset].dataset_id
  role           = "READER"
  group_by_email = each.value
}

# The views of the warehouse read staging for whoever may read the warehouse; nobody else does.
resource "google_bigquery_dataset_access" "views" {
  dataset_id = google_bigquery_dataset.dataset[var.staging_dataset].dataset_id

  dataset {
    target_types = ["VIEWS"]
    dataset {
      project_id = var.project
      dataset_id = google_bigquery_dataset.dataset[var.warehouse_dataset].dataset_id
    }
  }
}

# Loads and queries are jobs, and jobs belong to the project.
resource "google_project_iam_member" "ingest_jobs" {
  project = var.project
  role    = "roles/bigquery.jobUser"
  member  = google_service_account.ingest.member
}
