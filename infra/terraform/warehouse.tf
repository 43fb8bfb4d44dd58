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

resource "google_bigquery_dataset_iam_member" "ingest" {
  for_each = local.datasets

  dataset_id = google_bigquery_dataset.dataset[each.key].dataset_id
  role       = "roles/bigquery.dataEditor"
  member     = google_service_account.ingest.member
}

# Views read staging for whoever may read the warehouse, and nobody else does.
resource "google_bigquery_dataset_iam_member" "reader" {
  for_each = var.readers

  dataset_id = google_bigquery_dataset.dataset[var.warehouse_dataset].dataset_id
  role       = "roles/bigquery.dataViewer"
  member     = each.value
}

# Loads and queries are jobs, and jobs belong to the project.
resource "google_project_iam_member" "ingest_jobs" {
  project = var.project
  role    = "roles/bigquery.jobUser"
  member  = google_service_account.ingest.member
}
