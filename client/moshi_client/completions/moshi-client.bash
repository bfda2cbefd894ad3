# Completion of moshi-client for bash, 3.2 (macOS) and later. In ~/.bashrc or ~/.bash_profile:
#   eval "$(moshi-client help --completions bash)"
_moshi_client() {
    local client=${1/#\~/$HOME} kind='' word told IFS=$'\t'
    local words="${COMP_WORDS[*]:1:COMP_CWORD}"
    COMPREPLY=()
    while read -r word told; do
        if [ -z "$kind" ]; then
            kind=$word
        else
            COMPREPLY+=("$(printf '%q' "$word")")
        fi
    done < <("$client" help "--complete=$words" 2>/dev/null)
    # What the shell completes by itself, it does when nothing is given: `-o default`.
    case $kind in
        files | dirs) ;;
        *) compopt +o default 2>/dev/null ;;
    esac
}
complete -o default -F _moshi_client moshi-client
