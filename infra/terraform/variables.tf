variable "project" {
  description = "Id of the Google Cloud project. One project per environment is safest; two may share one."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project's id: 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "region" {
  description = "Region of bucket, datasets, database and runs: one and the same, so that no byte leaves it."
  type        = string
  default     = "europe-west3"
}

variable "lake_prefix" {
  description = "Folder of the bucket in which the lake lies, as in the field prefix of the lake's block; empty: all of it."
  type        = string
  default     = ""

  validation {
    condition     = !startswith(var.lake_prefix, "/") && !endswith(var.lake_prefix, "/")
    error_message = "Without slashes at its ends."
  }
}

variable "batch_days" {
  description = "Days until what an unfinished run drew is given up: its batches are deleted, and the next run draws them anew."
  type        = number
  default     = 30

  validation {
    condition     = var.batch_days >= 7
    error_message = "At least 7: a run after a weekend goes on where the one before it stopped."
  }
}

variable "soft_delete_days" {
  description = "Days in which a deleted or overwritten object can be restored; 0 switches it off. It is stored, and paid, so long."
  type        = number
  default     = 7

  validation {
    condition     = var.soft_delete_days == 0 || (var.soft_delete_days >= 7 && var.soft_delete_days <= 90)
    error_message = "0, or 7 to 90: what Cloud Storage takes."
  }
}

variable "staging_dataset" {
  description = "BigQuery dataset that loads go into first."
  type        = string
  default     = "staging"
}

variable "warehouse_dataset" {
  description = "BigQuery dataset that readers query."
  type        = string
  default     = "warehouse"
}

variable "reader_groups" {
  description = "Groups that may read the warehouse, such as analysts@example.com. To query it they need BigQuery Job User too, in the project that pays."
  type        = set(string)
  default     = []
}

variable "database_tier" {
  description = "Machine of the registry's PostgreSQL."
  type        = string
  default     = "db-custom-1-3840"
}

variable "database_available" {
  description = "Whether the registry survives the loss of a zone, at twice its price. The lake is the truth, and the registry can be rebuilt from it."
  type        = bool
  default     = false
}

variable "database_password_version" {
  description = "Raise it to give the registry's user a new password."
  type        = number
  default     = 1
}

variable "image" {
  description = "Image of flows, worker and receiver, in the repository that this makes. Without one, neither worker nor receiver is made: the first apply makes the repository that the image is pushed to."
  type        = string
  default     = null
}

variable "prefect_api_url" {
  description = "API of the Prefect server or the Prefect Cloud workspace, as Cloud Run reaches it."
  type        = string
  default     = null

  validation {
    condition     = var.prefect_api_url == null || can(regex("^https://.+/api", coalesce(var.prefect_api_url, "-")))
    error_message = "https://…/api…: the key travels with each request."
  }
}

variable "prefect_auth" {
  description = "What the secret for Prefect holds: PREFECT_API_KEY for Prefect Cloud, PREFECT_API_AUTH_STRING for a server of your own."
  type        = string
  default     = "PREFECT_API_KEY"

  validation {
    condition     = contains(["PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"], var.prefect_auth)
    error_message = "PREFECT_API_KEY or PREFECT_API_AUTH_STRING."
  }
}

variable "worker_instances" {
  description = "Instances of each worker: 1, or 0 while nothing is to be done, which costs nothing."
  type        = number
  default     = 1
}

variable "watched" {
  description = "Buckets and prefixes whose changes start an ingest; the fields of the receiver's configuration in docs/events.md."
  type = list(object({
    bucket    = string
    prefix    = optional(string, "")
    dataset   = string
    workspace = string
    source    = optional(string)
  }))
  default = []
}

variable "github_repository" {
  description = "OWNER/NAME of the repository whose workflow pushes images, without a key; null: none may."
  type        = string
  default     = null
}

variable "deletion_protection" {
  description = "Whether bucket, datasets and database refuse to be destroyed."
  type        = bool
  default     = true
}
