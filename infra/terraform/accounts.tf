# Who runs what; who may do what stands beside the thing it is done to. docs/security.md has it as a table.
resource "google_service_account" "ingest" {
  account_id   = "${local.name}-ingest"
  display_name = "Lookbook ${local.environment}: ingest, verify, watch"

  depends_on = [google_project_service.api]
}

resource "google_service_account" "batch" {
  account_id   = "${local.name}-batch"
  display_name = "Lookbook ${local.environment}: draws batches, lake only"

  depends_on = [google_project_service.api]
}

resource "google_service_account" "dispatcher" {
  account_id   = "${local.name}-dispatcher"
  display_name = "Lookbook ${local.environment}: Prefect's worker, starts the jobs of the others"

  depends_on = [google_project_service.api]
}

# Jobs come and go, each under a name of its own, so that the right to make them is one of the project.
resource "google_project_iam_member" "dispatcher_runs" {
  project = var.project
  role    = "roles/run.developer"
  member  = google_service_account.dispatcher.member
}

resource "google_service_account_iam_member" "dispatcher_acts" {
  for_each = {
    ingest = google_service_account.ingest.name
    batch  = google_service_account.batch.name
  }

  service_account_id = each.value
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.dispatcher.member
}
