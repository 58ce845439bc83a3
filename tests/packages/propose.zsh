# Writes what zsh proposes for the line $2 to the file $3, with the completions in the directory $1.
zmodload zsh/zpty
zpty -b shell zsh -f -i

# Waits until the shell has printed this, and drops it.
await() {
    local text
    zpty -r -m shell text "*$1*"
}

zpty -w shell "PS1=; fpath=(${(q)1} \$fpath); autoload -Uz compinit; compinit -u -D"
# All proposals pass through compadd.
zpty -w shell "compadd() {
    local -a found
    builtin compadd -O found \"\$@\"
    print -rl -- \$found >> ${(q)3}
    builtin compadd \"\$@\"
}"
zpty -w shell "zle -C proposals complete-word _main_complete; bindkey '^I' proposals; print rea''dy"
await ready
zpty -w -n shell "$2"$'\t'
zpty -w shell $'\x15print do''ne'
await done
zpty -d shell
