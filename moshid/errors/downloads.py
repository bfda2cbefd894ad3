"""Errors of downloads and of their ledger."""

from __future__ import annotations

from moshid.errors.base import MoshidError


class DownloadError(MoshidError):
    """A download cannot go on."""

    kind = "download.error"


class DownloadNotFound(DownloadError):
    """The Hub has no such repository, revision or file."""

    kind = "download.not_found"
    default_hint = "Check the spelling of the repository, the revision and the file."


class DownloadGated(DownloadError):
    """The repository wants its terms accepted first."""

    kind = "download.gated"
    default_hint = (
        "Accept the terms on the repository's page, log in (huggingface-cli login), resume."
    )


class DownloadUnauthorized(DownloadError):
    """The Hub refused the token, or wants one."""

    kind = "download.unauthorized"
    default_hint = "Log in with a valid token (huggingface-cli login), then resume the job."


class DownloadNetwork(DownloadError):
    """The line is down or keeps breaking; the job goes on trying by itself."""

    kind = "download.network"
    retryable = True
    default_hint = "Nothing is lost; the download goes on when the line does."


class DownloadOffline(DownloadError):
    """HF_HUB_OFFLINE forbids the network and the files are not in the cache."""

    kind = "download.offline"
    default_hint = "Unset HF_HUB_OFFLINE and restart the daemon, or bring the files into the cache."


class DiskFull(DownloadError):
    """No room on the cache's volume; the job pauses and goes on when there is room."""

    kind = "download.disk_full"
    retryable = True
    default_hint = "Free some space; the job goes on by itself, nothing is fetched twice."


class VolumeMissing(DownloadError):
    """The volume that holds the cache is not there."""

    kind = "download.volume_missing"
    retryable = True
    default_hint = "Connect the volume; the job goes on by itself."


class DigestMismatch(DownloadError):
    """The bytes do not have the digest that the Hub names."""

    kind = "download.digest_mismatch"
    default_hint = "Run `moshi-client verify MODEL --repair` to fetch the bad chunks again."


class NoDigest(DownloadError):
    """The server names no digest that could prove the file."""

    kind = "download.no_digest"
    default_hint = "Use a Hub that sends X-Linked-Etag (SHA-256) or a git blob id as ETag."


class OutputUnusable(DownloadError):
    """The file of a URL cannot be put where it is wanted."""

    kind = "download.bad_output"
    default_hint = "Choose another path, or remove what is there."


class PartialLocked(DownloadError):
    """Another moshid, of another home, is writing the same partial file."""

    kind = "download.locked"
    retryable = True
    default_hint = "Let the other daemon finish, or stop it, then resume this job."


class DownloadWaits(DownloadError):
    """Other downloads go first; the job goes on by itself."""

    kind = "download.waits"
    retryable = True
    default_hint = "For more of the line: moshi-client downloads JOB --priority high."


class OutsideSchedule(DownloadWaits):
    """The schedule lets no download run now; the job goes on by itself when it does."""

    kind = "download.waits_for_schedule"
    default_hint = "To go on now: moshi-client downloads --schedule off."


class MeteredLine(DownloadWaits):
    """The line is metered, and the job is not of high priority."""

    kind = "download.waits_for_line"
    default_hint = "To go on now: downloads --metered off, or downloads JOB --priority high."


class LedgerTooNew(DownloadError):
    """ledger.db was written by a newer moshid; it is left untouched."""

    kind = "download.ledger_too_new"
    default_hint = "Install the newer moshid again, or move ledger.db away to start afresh."


class LedgerBroken(DownloadError):
    """ledger.db is another program's file, or was damaged while in use."""

    kind = "download.ledger_broken"
    default_hint = "Start moshid again: it rebuilds a ledger of its own; move another's file away."


class NoSuchJob(DownloadError):
    """No download job of that id."""

    kind = "download.no_such_job"
    default_hint = "List the jobs: moshi-client downloads."


class WrongJobState(DownloadError):
    """The job's state does not allow this."""

    kind = "download.wrong_state"
    default_hint = "Look at the job's state: moshi-client downloads."
