//! The virtual environment's own files: what is there before a package is installed.
//!
//! The same as `uv venv` leaves for an interpreter of the distribution: `pyvenv.cfg`, the links to the interpreter,
//! `lib64`, and scripts for those who want to activate the environment in a shell. The exceptions:
//!
//! - the activation scripts are imgforge's own text for sh, csh and fish; the ones for Windows' shells, nushell, xonsh
//!   and Python itself (`activate_this.py`) are left out;
//! - no `.gitignore`, `.lock` or `CACHEDIR.TAG`: an image is no work tree and no cache;
//! - `pyvenv.cfg` does not say which version of which tool made it.

use crate::tree::{Entry, Tree, TreeError};
use crate::wheel::Scheme;

/// The virtual environment's own files, for an interpreter at `interpreter` in the image (an absolute path).
///
/// `version` is CPython's version as far as it is known: `3.11` or `3.11.2`.
///
/// # Errors
/// [`TreeError::Name`] for a prefix that can't hold the files.
pub fn environment(scheme: &Scheme, interpreter: &str, version: &str) -> Result<Tree, TreeError> {
    let prefix = scheme.prefix().to_string();
    let (major, minor) = scheme.python();
    let home = interpreter.rsplit_once('/').map_or("/", |(folder, _)| folder);
    let settings = format!(
        "home = {home}\nimplementation = CPython\nversion_info = {version}\ninclude-system-site-packages = false\n"
    );
    let mut tree = Tree::new();
    let mut put = |path: &str, entry| tree.insert(scheme.prefix().join(path)?, entry);
    put("pyvenv.cfg", Entry::bytes(settings.into_bytes(), false))?;
    put("lib64", Entry::symlink("lib"))?;
    put(scheme.site_packages(), Entry::directory(0o755))?;
    put("bin/python", Entry::symlink(interpreter))?;
    put(&format!("bin/python{major}"), Entry::symlink("python"))?;
    put(&format!("bin/python{major}.{minor}"), Entry::symlink("python"))?;
    for (name, template) in [("activate", SH), ("activate.csh", CSH), ("activate.fish", FISH)] {
        let text = template.replace("@PREFIX@", &prefix.replace('\'', r"'\''"));
        put(&format!("bin/{name}"), Entry::bytes(text.into_bytes(), false))?;
    }
    Ok(tree)
}

const SH: &str = r#"# Usage: . bin/activate

deactivate () {
    if [ -n "${_OLD_VIRTUAL_PATH+x}" ]; then
        PATH="$_OLD_VIRTUAL_PATH"
        export PATH
        unset _OLD_VIRTUAL_PATH
    fi
    if [ -n "${_OLD_VIRTUAL_PYTHONHOME+x}" ]; then
        PYTHONHOME="$_OLD_VIRTUAL_PYTHONHOME"
        export PYTHONHOME
        unset _OLD_VIRTUAL_PYTHONHOME
    fi
    if [ -n "${_OLD_VIRTUAL_PS1+x}" ]; then
        PS1="$_OLD_VIRTUAL_PS1"
        unset _OLD_VIRTUAL_PS1
    fi
    hash -r 2>/dev/null || true
    unset VIRTUAL_ENV VIRTUAL_ENV_PROMPT
    if [ "${1:-}" != "nondestructive" ]; then
        unset -f deactivate
    fi
}

# What an environment that is active now has changed is undone first.
deactivate nondestructive

VIRTUAL_ENV='@PREFIX@'
VIRTUAL_ENV_PROMPT="${VIRTUAL_ENV##*/}"
export VIRTUAL_ENV VIRTUAL_ENV_PROMPT

_OLD_VIRTUAL_PATH="$PATH"
PATH="$VIRTUAL_ENV/bin:$PATH"
export PATH

if [ -n "${PYTHONHOME+x}" ]; then
    _OLD_VIRTUAL_PYTHONHOME="$PYTHONHOME"
    unset PYTHONHOME
fi

if [ -z "${VIRTUAL_ENV_DISABLE_PROMPT-}" ]; then
    _OLD_VIRTUAL_PS1="${PS1-}"
    PS1="($VIRTUAL_ENV_PROMPT) ${PS1-}"
fi

hash -r 2>/dev/null || true
"#;

const CSH: &str = r#"# Usage: source bin/activate.csh

alias deactivate 'if ($?_OLD_VIRTUAL_PATH) setenv PATH "$_OLD_VIRTUAL_PATH"; if ($?_OLD_VIRTUAL_PROMPT) set prompt="$_OLD_VIRTUAL_PROMPT"; unset _OLD_VIRTUAL_PATH _OLD_VIRTUAL_PROMPT; unsetenv VIRTUAL_ENV VIRTUAL_ENV_PROMPT; rehash; test "\!:*" != "nondestructive" && unalias deactivate'

# What an environment that is active now has changed is undone first.
deactivate nondestructive

setenv VIRTUAL_ENV '@PREFIX@'
setenv VIRTUAL_ENV_PROMPT "$VIRTUAL_ENV:t"

set _OLD_VIRTUAL_PATH="$PATH"
setenv PATH "$VIRTUAL_ENV/bin:$PATH"

if (! $?VIRTUAL_ENV_DISABLE_PROMPT && $?prompt) then
    set _OLD_VIRTUAL_PROMPT="$prompt"
    set prompt = "($VIRTUAL_ENV_PROMPT) $prompt"
endif

rehash
"#;

const FISH: &str = r#"# Usage: source bin/activate.fish

function deactivate -d 'Leave the virtual environment'
    if set -q _OLD_VIRTUAL_PATH
        set -gx PATH $_OLD_VIRTUAL_PATH
        set -e _OLD_VIRTUAL_PATH
    end
    if set -q _OLD_VIRTUAL_PYTHONHOME
        set -gx PYTHONHOME $_OLD_VIRTUAL_PYTHONHOME
        set -e _OLD_VIRTUAL_PYTHONHOME
    end
    if functions -q _old_fish_prompt
        functions -e fish_prompt
        functions -c _old_fish_prompt fish_prompt
        functions -e _old_fish_prompt
    end
    set -e VIRTUAL_ENV
    set -e VIRTUAL_ENV_PROMPT
    if test "$argv[1]" != nondestructive
        functions -e deactivate
    end
end

# What an environment that is active now has changed is undone first.
deactivate nondestructive

set -gx VIRTUAL_ENV '@PREFIX@'
set -gx VIRTUAL_ENV_PROMPT (string split -r -m 1 / -- $VIRTUAL_ENV)[-1]

set -gx _OLD_VIRTUAL_PATH $PATH
set -gx PATH "$VIRTUAL_ENV/bin" $PATH

if set -q PYTHONHOME
    set -gx _OLD_VIRTUAL_PYTHONHOME $PYTHONHOME
    set -e PYTHONHOME
end

if not set -q VIRTUAL_ENV_DISABLE_PROMPT; and functions -q fish_prompt
    functions -c fish_prompt _old_fish_prompt
    function fish_prompt
        printf '(%s) ' $VIRTUAL_ENV_PROMPT
        _old_fish_prompt
    end
end
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Content, Kind, TreePath};

    #[test]
    fn links_and_settings() {
        let scheme = Scheme::venv("/opt/venv", (3, 11)).unwrap();
        let tree = environment(&scheme, "/usr/bin/python3.11", "3.11").unwrap();
        let entry = |path: &str| tree.get(&TreePath::new(path).unwrap()).unwrap().clone();
        assert_eq!(entry("/opt/venv/bin/python").kind, Kind::Symlink("/usr/bin/python3.11".into()));
        assert_eq!(entry("/opt/venv/bin/python3.11").kind, Kind::Symlink("python".into()));
        let settings = entry("/opt/venv/pyvenv.cfg");
        let Some(Content::Bytes(bytes)) = settings.content() else { unreachable!() };
        assert!(std::str::from_utf8(bytes).unwrap().starts_with("home = /usr/bin\n"));
    }

    /// The script is run by the shell of the host, twice over, and undone.
    #[test]
    fn sh_activates_and_deactivates() {
        let script = SH.replace("@PREFIX@", "/opt/it'\\''s");
        let program = format!(
            "PATH=/bin:/usr/bin; PS1=p; before=$PATH\n{script}\n{script}\n\
             echo \"$PATH|$VIRTUAL_ENV|$PS1\"; deactivate; echo \"$PATH|${{VIRTUAL_ENV-none}}|$PS1\""
        );
        let output = std::process::Command::new("sh").args(["-euc", &program]).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "/opt/it's/bin:/bin:/usr/bin|/opt/it's|(it's) p\n/bin:/usr/bin|none|p\n",
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
