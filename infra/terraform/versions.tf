terraform {
  # Write-only arguments, which keep passwords out of the state, came with 1.11.
  required_version = ">= 1.11, < 2.0"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 7.0, < 9.0"
    }
    random = {
      source  = "hashicorp/random"
      version = "~> 3.7"
    }
  }

  # The bucket of the state is named at init: terraform init -backend-config=bucket=NAME. A workspace per environment.
  backend "gcs" {
    prefix = "lookbook"
  }
}

provider "google" {
  project = var.project
  region  = var.region

  default_labels = local.labels
}
