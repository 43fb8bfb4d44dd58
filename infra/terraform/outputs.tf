locals {
  template = jsondecode(file("${path.module}/../work-pools/cloud-run-v2.json"))

  # Without these the template is the one of any project.
  defaults = {
    region     = var.region
    image      = coalesce(var.image, "lookbook:latest")
    vpc_access = { networkInterfaces = [{ network = google_compute_network.network.name, subnetwork = google_compute_subnetwork.runs.name }], egress = "PRIVATE_RANGES_ONLY" }
    (var.prefect_auth == "PREFECT_API_KEY" ? "prefect_api_key_secret" : "prefect_api_auth_string_secret") = {
      secret  = google_secret_manager_secret.prefect.secret_id
      version = "latest"
    }
  }
  properties = {
    for name, property in local.template.variables.properties :
    name => merge(property, { for key, value in local.defaults : "default" => value if key == name })
  }
}

output "lake" {
  description = "URI of the lake: --lake of lookbook workspace save."
  value       = "gs://${google_storage_bucket.lake.name}${var.lake_prefix == "" ? "" : "/${var.lake_prefix}"}"
}

output "warehouse" {
  description = "Where the warehouse is: project, its two datasets, and their location."
  value = {
    project           = var.project
    staging_dataset   = google_bigquery_dataset.dataset[var.staging_dataset].dataset_id
    warehouse_dataset = google_bigquery_dataset.dataset[var.warehouse_dataset].dataset_id
    location          = var.region
  }
}

output "registry_url" {
  description = "URL of the registry, without the password, which is in the secret of database_secret."
  value       = "postgresql://${google_sql_user.registry.name}@${google_sql_database_instance.registry.private_ip_address}:5432/${google_sql_database.registry.name}?sslmode=require"
}

output "database_secret" {
  description = "Secret that holds the password of the registry's user."
  value       = google_secret_manager_secret.database.secret_id
}

output "prefect_secret" {
  description = "Secret that waits for the key of Prefect's API."
  value       = google_secret_manager_secret.prefect.secret_id
}

output "repository" {
  description = "Repository of images; the image of a version is REPOSITORY/lookbook:VERSION."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "deploy_environment" {
  description = "Accounts of the deployments, for the shell that runs lookbook deploy."
  value       = "export LOOKBOOK_INGEST_ACCOUNT=${google_service_account.ingest.email} LOOKBOOK_BATCH_ACCOUNT=${google_service_account.batch.email}"
}

output "work_pool_template" {
  description = "Job template of the work pool lookbook-cloud-run, with this environment's region, network and secret."
  value       = jsonencode(merge(local.template, { variables = merge(local.template.variables, { properties = local.properties }) }))
}

output "github" {
  description = "Variables of the environment in GitHub, for the workflow deploy."
  value = var.github_repository == null ? null : {
    GOOGLE_PROVIDER  = google_iam_workload_identity_pool_provider.github[0].name
    GOOGLE_ACCOUNT   = google_service_account.publisher[0].email
    IMAGE_REPOSITORY = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
  }
}
