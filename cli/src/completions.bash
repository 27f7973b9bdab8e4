_micro_complete() {
    # Bash breaks words at : and = too, as in --registry=local:/tmp/x: what no space parts is one.
    local IFS=$'\n' rest=$COMP_LINE trimmed words=() last=-1 index=0 i word
    for i in "${!COMP_WORDS[@]}"; do
        word=${COMP_WORDS[i]}
        trimmed=${rest#"${rest%%[![:space:]]*}"}
        if ((i == 0)) || [[ $trimmed != "$rest" ]]; then
            last=$((last + 1))
        fi
        rest=${trimmed#"$word"}
        word=${word#[\"\']}
        word=${word%[\"\']}
        if ((i == COMP_CWORD)); then
            index=$last
            # The cursor may be in the middle.
            [[ $word == *"$2" ]] || word=$2
        fi
        words[last]=${words[last]-}$word
    done
    # What bash replaces is only what comes after the last break.
    local kept=${words[index]%"$2"}
    COMPREPLY=($(
        _CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$index MICRO_COMPLETE=bash micro -- "${words[@]}"
    )) || COMPREPLY=()
    COMPREPLY=("${COMPREPLY[@]#"$kept"}")
    if [[ ${COMPREPLY[0]-} == *[=/:] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
# Older ones can neither keep an order nor do without a space.
complete -o bashdefault -o nosort -F _micro_complete micro 2>/dev/null ||
    complete -o bashdefault -F _micro_complete micro
