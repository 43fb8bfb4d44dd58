# The workflow "deploy" signs in by a token of GitHub, and no key exists: this repository's, in the environment of this
# workspace's name, whose branches and reviewers are set in GitHub.
resource "google_service_account" "publisher" {
  count = var.github_repository == null ? 0 : 1

  account_id   = "${local.name}-publisher"
  display_name = "Lookbook ${local.environment}: pushes images from GitHub"

  depends_on = [google_project_service.api]
}

resource "google_iam_workload_identity_pool" "github" {
  count = var.github_repository == null ? 0 : 1

  workload_identity_pool_id = "${local.name}-github"
  display_name              = "GitHub"

  depends_on = [google_project_service.api]
}

resource "google_iam_workload_identity_pool_provider" "github" {
  # checkov:skip=CKV_GCP_125:It can't see through the variable: the subject is one environment of one repository, and no wildcard.
  count = var.github_repository == null ? 0 : 1

  workload_identity_pool_id          = google_iam_workload_identity_pool.github[0].workload_identity_pool_id
  workload_identity_pool_provider_id = "actions"
  attribute_condition                = "assertion.sub == 'repo:${var.github_repository}:environment:${local.environment}'"
  attribute_mapping                  = { "google.subject" = "assertion.sub" }

  oidc {
    issuer_uri = "https://token.actions.githubusercontent.com"
  }
}

resource "google_service_account_iam_member" "github" {
  count = var.github_repository == null ? 0 : 1

  service_account_id = google_service_account.publisher[0].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "principal://iam.googleapis.com/${google_iam_workload_identity_pool.github[0].name}/subject/repo:${var.github_repository}:environment:${local.environment}"
}
