# Completion of moshi-client for fish. In ~/.config/fish/config.fish:
#   moshi-client help --completions fish | source
function __moshi_client_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    set -l words (string join \t -- $before[2..-1] "$current")
    set -l answer ($before[1] help "--complete=$words" 2>/dev/null)
    switch "$answer[1]"
        case files
            __fish_complete_path "$current"
        case dirs
            __fish_complete_directories "$current"
        case words
            string join \n -- $answer[2..-1]
    end
end
complete -c moshi-client -f -a '(__moshi_client_complete)'
