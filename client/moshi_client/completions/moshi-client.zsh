#compdef moshi-client
# Completion of moshi-client for zsh. In ~/.zshrc, after compinit:
#   source <(moshi-client help --completions zsh)
_moshi-client() {
    local -a lines candidates
    local line
    lines=("${(@f)$(${~words[1]} help "--complete=${(pj:\t:)words[2,CURRENT]}" 2>/dev/null)}")
    case $lines[1] in
        files) _files ;;
        dirs) _files -/ ;;
        words)
            for line in "${(@)lines[2,-1]}"; do
                candidates+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
            done
            _describe -t words 'moshi-client' candidates
            ;;
    esac
}
if [[ $funcstack[1] == _moshi-client ]]; then
    _moshi-client "$@"
else
    compdef _moshi-client moshi-client
fi
