"""CleanVision's issues of a folder, all that it looks for by default, with its own number of processes."""

from __future__ import annotations

from cleanvision import Imagelab

from benchmarks.peers import clock


def main() -> None:
    """Find the issues of every photo and write them down."""
    photos, target = clock.arguments()

    def work() -> int:
        lab = Imagelab(filepaths=[str(path) for path in photos])
        lab.find_issues(verbose=False)
        lab.issues.to_csv(target / "issues.csv")
        return len(lab.issues)

    clock.report(work)


if __name__ == "__main__":
    main()
