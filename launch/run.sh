# shellcheck shell=bash
# Sourced by the scripts of this folder; they set dry_run to 1 where --dry-run is given.
dry_run=0

# Ends the script: one line, exit status 2.
die() {
    echo "${0##*/}: $1 (see --help)" >&2
    exit 2
}

# Whether the arguments of mdp name the shared folder of the machines, which has to be mounted then.
needs_mount() {
    case " $* " in *[\ =]/mnt/mdp[/\ ]*) ;; *) return 1 ;; esac
}

# Ends the script where a workdir would be lost with the machine.
require_lasting_workdir() {
    case " $* " in
    *" --workdir "/mnt/mdp/* | *" --workdir="/mnt/mdp/* | *" --workdir"[\ =]gs://* | *" --workdir"[\ =]s3://*) ;;
    *) die "expected a --workdir below /mnt/mdp, or in a bucket: gs://BUCKET/FOLDER" ;;
    esac
}

# Runs a command; in a dry run prints it instead, so that the line can be pasted into a shell.
run() {
    local word line='' quote="'\\''"
    if [ "$dry_run" = 0 ]; then
        "$@"
        return
    fi
    for word in "$@"; do
        case $word in '' | *[!A-Za-z0-9_./:=,@%+-]*) word="'${word//\'/$quote}'" ;; esac
        line+=" $word"
    done
    echo "${line# }"
}
