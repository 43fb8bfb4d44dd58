# Bucket → topic → receiver → event → ingest, as docs/events.md has it.
locals {
  source_buckets = sort(distinct([for watch in var.watched : watch.bucket]))
  sources        = { for watch in var.watched : "${watch.bucket}/${watch.prefix}" => watch if local.receiving }

  # Where the worker sees the bucket: gs:// is no source of ingest yet.
  configuration = yamlencode({
    watched = [
      for watch in var.watched :
      merge(watch, { source = coalesce(watch.source, trimsuffix("/sources/${watch.bucket}/${watch.prefix}", "/")) })
    ]
  })
}

data "google_storage_project_service_account" "storage" {
  depends_on = [google_project_service.api]
}

resource "google_service_account" "receiver" {
  count = local.receiving ? 1 : 0

  account_id   = "${local.name}-receiver"
  display_name = "Lookbook ${local.environment}: tells Prefect of changed sources"
}

resource "google_service_account" "push" {
  count = local.receiving ? 1 : 0

  account_id   = "${local.name}-push"
  display_name = "Lookbook ${local.environment}: signs what Pub/Sub posts"
}

# No secret, only a file that Cloud Run can mount: which buckets are watched.
resource "google_secret_manager_secret" "receiver" {
  count = local.receiving ? 1 : 0

  secret_id = "${local.name}-receiver"

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }
}

resource "google_secret_manager_secret_version" "receiver" {
  count = local.receiving ? 1 : 0

  secret      = google_secret_manager_secret.receiver[0].id
  secret_data = local.configuration
}

resource "google_secret_manager_secret_iam_member" "receiver" {
  count = local.receiving ? 1 : 0

  secret_id = google_secret_manager_secret.receiver[0].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.receiver[0].member
}

resource "google_cloud_run_v2_service" "receiver" {
  count = local.receiving ? 1 : 0

  name                = "${local.name}-receiver"
  location            = var.region
  ingress             = "INGRESS_TRAFFIC_INTERNAL_ONLY" # Pub/Sub of the project counts as internal
  deletion_protection = false

  template {
    service_account                  = google_service_account.receiver[0].email
    timeout                          = "120s"
    max_instance_request_concurrency = 1000

    # One: each gathers the messages that it gets itself.
    scaling {
      max_instance_count = 1
    }

    containers {
      image   = var.image
      command = ["lookbook"]
      args    = ["receive", "/etc/lookbook/receiver.yaml", "--host=0.0.0.0", "--port=8080", "--unauthenticated"]

      ports {
        container_port = 8080
      }
      resources {
        limits = { cpu = "1", memory = "1Gi" }
      }

      env {
        name  = "PREFECT_API_URL"
        value = var.prefect_api_url
      }
      env {
        name = var.prefect_auth
        value_source {
          secret_key_ref {
            secret  = google_secret_manager_secret.prefect.secret_id
            version = "latest"
          }
        }
      }

      volume_mounts {
        name       = "configuration"
        mount_path = "/etc/lookbook"
      }
    }

    volumes {
      name = "configuration"
      secret {
        secret = google_secret_manager_secret.receiver[0].secret_id
        items {
          version = google_secret_manager_secret_version.receiver[0].version
          path    = "receiver.yaml"
        }
      }
    }
  }

  depends_on = [
    google_secret_manager_secret_iam_member.prefect,
    google_secret_manager_secret_iam_member.receiver,
  ]
}

resource "google_cloud_run_v2_service_iam_member" "push" {
  count = local.receiving ? 1 : 0

  name     = google_cloud_run_v2_service.receiver[0].name
  location = var.region
  role     = "roles/run.invoker"
  member   = google_service_account.push[0].member
}

resource "google_pubsub_topic" "sources" {
  # checkov:skip=CKV_GCP_83:Messages are names of objects, encrypted by Google's own keys.
  count = local.receiving ? 1 : 0

  name = "${local.name}-sources"

  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }
}

resource "google_pubsub_topic_iam_member" "storage" {
  count = local.receiving ? 1 : 0

  topic  = google_pubsub_topic.sources[0].name
  role   = "roles/pubsub.publisher"
  member = data.google_storage_project_service_account.storage.member
}

resource "google_storage_notification" "source" {
  for_each = local.sources

  bucket             = each.value.bucket
  object_name_prefix = each.value.prefix
  topic              = google_pubsub_topic.sources[0].id
  payload_format     = "NONE"
  event_types        = ["OBJECT_FINALIZE", "OBJECT_DELETE"]

  depends_on = [google_pubsub_topic_iam_member.storage]
}

resource "google_storage_bucket_iam_member" "source" {
  for_each = toset(local.source_buckets)

  bucket = each.value
  role   = "roles/storage.objectViewer"
  member = google_service_account.ingest.member
}

resource "google_pubsub_subscription" "receiver" {
  count = local.receiving ? 1 : 0

  name                       = "${local.name}-receiver"
  topic                      = google_pubsub_topic.sources[0].id
  ack_deadline_seconds       = 60 # above the receiver's longest_wait_seconds
  message_retention_duration = "604800s"

  expiration_policy {
    ttl = "" # never
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  push_config {
    push_endpoint = "${google_cloud_run_v2_service.receiver[0].uri}/"

    oidc_token {
      service_account_email = google_service_account.push[0].email
      audience              = google_cloud_run_v2_service.receiver[0].uri
    }
  }

  depends_on = [google_cloud_run_v2_service_iam_member.push]
}
