//! Empty: the programs are the `[[example]]` targets beside this folder.
